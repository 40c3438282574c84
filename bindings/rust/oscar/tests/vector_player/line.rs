//! A line's words, the inputs that it names, and why it may fail.

use std::iter::Peekable;
use std::str::{FromStr, SplitWhitespace};

use oscar::Error;

pub enum Failure {
    /// The library refused a call.
    Call(Error),
    /// Something is wrong with the file, or with a result.
    Bad(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Call(error)
    }
}

pub type Played = Result<(), Failure>;

pub fn bad<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Bad(text.into()))
}

/// The words of a line that nobody has read yet.
pub struct Words<'a>(Peekable<SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    pub fn new(line: &'a str) -> Words<'a> {
        Words(line.split_whitespace().peekable())
    }

    /// The next word, if there is one.
    pub fn next_word(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    pub fn word(&mut self) -> Result<&'a str, Failure> {
        self.next_word().ok_or_else(|| Failure::Bad("the line is too short".into()))
    }

    pub fn number<T: FromStr>(&mut self) -> Result<T, Failure> {
        let word = self.word()?;
        word.parse().or_else(|_| bad(format!("{word} is no number here")))
    }

    pub fn is_empty(&mut self) -> bool {
        self.0.peek().is_none()
    }
}

/// The generator of the inputs.
pub struct Inputs(pub u32);

impl Inputs {
    pub fn take(&mut self, n: usize) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((self.0 >> 24) as f32 - 127.5) / 64.0
        };
        (0..n).map(|_| next()).collect()
    }
}
