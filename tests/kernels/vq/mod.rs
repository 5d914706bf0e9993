pub mod vq_lookup;
