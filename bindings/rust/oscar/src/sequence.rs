//! Sequences of tokens, and what a step is to do with them.

use std::fmt;

use crate::sys;

/// A sequence of tokens in a cache: made by [`Cache::open`](crate::Cache::open) and
/// [`Cache::fork`](crate::Cache::fork).
///
/// It is a number, and may be copied. Dropping it changes nothing: [`Cache::close`](crate::Cache::close) frees what it
/// holds, and so does dropping the cache. A number is never given out again: a closed sequence is
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sequence {
    pub(crate) id: u64,
    /// Which cache's: numbers of different caches may be equal. 0: any (the padding sequence).
    pub(crate) owner: u64,
}

impl Sequence {
    /// The padding sequence: rows given to it are not stored, their output is 0 and their log-sum-exp -infinity.
    pub const PADDING: Sequence = Sequence { id: 0, owner: 0 };

    /// Its number in the C ABI.
    #[must_use]
    pub fn id(self) -> u64 {
        self.id
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequence({})", self.id)
    }
}

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct Entry {
    /// The sequence; each at most once in a step, except [`Sequence::PADDING`].
    pub sequence: Sequence,
    /// Tokens that the step appends, drafts included; at least 1.
    pub n_new: u32,
    /// The last `n_draft` of them may be rejected: less than `max_rollback`, at most `n_new`. See also
    /// [`query_only`](Entry::query_only).
    pub n_draft: u32,
}

impl Entry {
    /// `n_new` tokens for `sequence`, none of them a draft.
    pub fn new(sequence: Sequence, n_new: u32) -> Entry {
        Entry { sequence, n_new, n_draft: 0 }
    }

    /// `n` rows that belong to no sequence.
    pub fn padding(n: u32) -> Entry {
        Entry::new(Sequence::PADDING, n)
    }

    /// `n` queries that attend to every token of `sequence` and append nothing: their keys and values are not read, and they
    /// do not vote. For context parallelism, on the caches that do not get the new token; [`merge`](crate::merge) joins the
    /// results.
    pub fn query_only(sequence: Sequence, n: u32) -> Entry {
        Entry { sequence, n_new: n, n_draft: sys::OSCAR_QUERY_ONLY }
    }

    /// The last `n_draft` of the new tokens may be rejected.
    pub fn n_draft(mut self, n_draft: u32) -> Entry {
        self.n_draft = n_draft;
        self
    }
}
