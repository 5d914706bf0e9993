//! Text to tokens and back, by the vocabulary in a GGUF file.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

use crate::Result;
use crate::gguf::{Gguf, Value};

/// The vocabulary of a model.
pub struct Tokens {
    tokenizer: Tokenizer,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// The template of a chat is ChatML.
    chat: bool,
}

/// What begins a chat, as the template of SmolLM2 has it.
const SYSTEM: &str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

impl Tokens {
    /// The byte-level pairs of GPT-2 that a file has, `smollm` with digits that stand alone.
    ///
    /// # Errors
    /// Another kind of vocabulary, by name.
    pub fn of(file: &Gguf) -> Result<Tokens> {
        let (model, pre) = (file.text("tokenizer.ggml.model"), file.text("tokenizer.ggml.pre"));
        let digits = match pre {
            "smollm" => true,
            "gpt-2" => false,
            _ => return Err(format!("text of tokenizer `{model}`, `{pre}` is not split here: give --tokens").into()),
        };
        if model != "gpt2" {
            return Err(format!("text of tokenizer `{model}` is not split here: give --tokens").into());
        }
        let text = |value: &Value| if let Value::Text(text) = value { text.clone() } else { String::new() };
        let words: Vec<String> = file.list("tokenizer.ggml.tokens").iter().map(text).collect();
        let merges = file.list("tokenizer.ggml.merges").iter().map(text);
        let merges = merges.filter_map(|merge| merge.split_once(' ').map(|(a, b)| (a.into(), b.into()))).collect();
        let control = file.list("tokenizer.ggml.token_type").iter().map(|kind| *kind == Value::Int(3));
        let special: Vec<AddedToken> = words
            .iter()
            .zip(control)
            .filter(|(_, special)| *special)
            .map(|(word, _)| AddedToken::from(word.as_str(), true))
            .collect();
        let vocab: Vocab = words.iter().enumerate().map(|(id, word)| (word.clone(), id as u32)).collect();
        let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(vocab, merges).build().map_err(told)?);
        let bytes = ByteLevel::new(false, true, true);
        tokenizer.with_pre_tokenizer(Some(match digits {
            true => Sequence::new(vec![Digits::new(true).into(), bytes.into()]),
            false => Sequence::new(vec![bytes.into()]),
        }));
        tokenizer.with_decoder(Some(bytes));
        tokenizer.add_special_tokens(&special);
        let ends = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
        let mut ends: Vec<u32> = ends.iter().filter_map(|key| file.int(key).ok()).map(|id| id as u32).collect();
        ends.extend(tokenizer.token_to_id("<|endoftext|>"));
        let chat = file.text("tokenizer.chat_template").contains("<|im_start|>");
        Ok(Tokens { tokenizer, ends, chat })
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode(text, false).map_err(told)?.get_ids().to_vec())
    }

    /// The text of tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(self.tokenizer.decode(ids, false).map_err(told)?)
    }

    /// Calls back with each token's part of the text, as soon as its characters are whole.
    pub fn words(&self) -> impl FnMut(u32) -> Result<String> {
        let mut stream = self.tokenizer.decode_stream(true);
        move |id| Ok(stream.step(id).map_err(told)?.unwrap_or_default())
    }

    /// A user's turn of a chat, and the beginning of the answer.
    ///
    /// # Errors
    /// A model whose template is another one.
    pub fn turn(&self, text: &str, first: bool) -> Result<Vec<u32>> {
        if !self.chat {
            return Err("the template of the file is not ChatML: give --raw".into());
        }
        let system = if first { format!("<|im_start|>system\n{SYSTEM}<|im_end|>\n") } else { "\n".into() };
        self.encode(&format!("{system}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"))
    }
}

fn told(error: tokenizers::Error) -> String {
    error.to_string()
}
