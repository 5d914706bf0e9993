mod advance;
mod beam_step;
mod sample;
mod speculative_tree;
mod speculative_verify;
