//! The key/value cache.

use std::fmt;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::calibration::Calibration;
use crate::config::Config;
use crate::error::{check, Error, Result};
use crate::report::Stats;
use crate::sequence::{Entry, Sequence};
use crate::step::{OpenStep, Step};
use crate::stream::Stream;
use crate::sys;
use crate::tensor::{TensorMut, ABSENT};

/// Keys and values of a model's layers, at about two bits per element. Dropping it frees everything.
///
/// All memory is taken by [`Cache::new`]. Calls on `&self` may run beside one another, on several threads.
pub struct Cache {
    raw: NonNull<sys::oscar_cache>,
    /// Tells its sequences from those of other caches, whose numbers may be equal.
    owner: u64,
    /// Entries of the step that begins, as C wants them; kept, so that a step allocates nothing.
    entries: Vec<sys::oscar_step_entry>,
}

// SAFETY: a cache belongs to no thread.
unsafe impl Send for Cache {}
// SAFETY: the calls that take &self take a `const oscar_cache *`, and those may run beside one another.
unsafe impl Sync for Cache {}

/// Numbers caches; 0 is the padding sequence's.
static NEXT_OWNER: AtomicU64 = AtomicU64::new(1);

impl Cache {
    /// Creates a cache. Takes all memory that it will ever need.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): a malformed configuration.
    /// [`Unsupported`](crate::ErrorKind::Unsupported): one that is not served, with the reason.
    /// [`NoMemory`](crate::ErrorKind::NoMemory). [`Backend`](crate::ErrorKind::Backend): `OSCAR_BACKEND` names none
    /// that can run here.
    pub fn new(config: &Config) -> Result<Cache> {
        let mut raw = ptr::null_mut();
        // SAFETY: the configuration says how large it is.
        check(config.with_raw(|config| unsafe { sys::oscar_cache_create(config, &mut raw) }))?;
        // SAFETY: new, and nobody else's.
        unsafe { Cache::from_raw(raw) }
    }

    /// Takes over a cache of the C ABI.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): it is NULL.
    ///
    /// # Safety
    /// `raw` was made by `oscar_cache_create`, and nobody else uses or destroys it from now on.
    pub unsafe fn from_raw(raw: *mut sys::oscar_cache) -> Result<Cache> {
        let raw = NonNull::new(raw).ok_or_else(|| Error::invalid("the cache is NULL".to_owned()))?;
        Ok(Cache { raw, owner: NEXT_OWNER.fetch_add(1, Ordering::Relaxed), entries: Vec::new() })
    }

    /// The cache of the C ABI, for calls of `oscar::sys`; it stays this one's. Calls that change it need this one to
    /// themselves.
    #[must_use]
    pub fn as_ptr(&self) -> *mut sys::oscar_cache {
        self.raw.as_ptr()
    }

    /// What it holds now.
    ///
    /// # Errors
    /// [`Device`](crate::ErrorKind::Device).
    pub fn stats(&self) -> Result<Stats> {
        Stats::of(self.as_ptr())
    }

    /// Ends the collecting of a cache with [`Config::self_calibrate`]: solves for transforms, keeps those that are better
    /// than the data-free ones on tokens that were held out, packs what has aged. From then on this is a cache like any
    /// other, with the same sequences. May take seconds. Gives the calibration that the cache now uses, to be saved.
    ///
    /// # Errors
    /// [`State`](crate::ErrorKind::State): there is nothing to freeze, a step is open, or there are too few tokens: a
    /// sequence of `n_sink` + 192 has enough for a `key_dim` of up to 128. Nothing has changed then.
    pub fn freeze(&mut self) -> Result<Calibration> {
        // SAFETY: the cache lives.
        Calibration::made(|out| unsafe { sys::oscar_cache_freeze(self.as_ptr(), out) })
    }

    /// An estimate of how many tokens a new sequence could be given now, one at a time, before a step is refused with
    /// [`NoSpace`](crate::ErrorKind::NoSpace). Longer steps reserve more at once: leave a margin of a step.
    ///
    /// # Errors
    /// [`Device`](crate::ErrorKind::Device).
    pub fn capacity(&self) -> Result<u64> {
        let mut n_tokens = 0;
        // SAFETY: the cache lives.
        check(unsafe { sys::oscar_cache_capacity(self.as_ptr(), &mut n_tokens) })?;
        Ok(n_tokens)
    }

    /// Opens an empty sequence.
    ///
    /// # Errors
    /// [`NoSpace`](crate::ErrorKind::NoSpace): `max_sequences` are open, or no memory is left.
    pub fn open(&mut self) -> Result<Sequence> {
        let mut id = 0;
        // SAFETY: the cache lives.
        check(unsafe { sys::oscar_seq_open(self.as_ptr(), &mut id) })?;
        Ok(self.sequence(id))
    }

    /// Frees a sequence and what it shares with nobody.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound): it is closed. [`State`](crate::ErrorKind::State): in an open step.
    pub fn close(&mut self, sequence: Sequence) -> Result<()> {
        let id = self.id_of(sequence)?;
        // SAFETY: the cache lives; any number will do for a sequence.
        check(unsafe { sys::oscar_seq_close(self.as_ptr(), id) })
    }

    /// A new sequence with the first `n_tokens` of `parent`: blocks are shared, exact rows copied.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound): it is closed. [`State`](crate::ErrorKind::State): in an open step, or
    /// a sliding window has already dropped tokens that the child would see. [`Invalid`](crate::ErrorKind::Invalid):
    /// `n_tokens` is larger than the length. [`NoSpace`](crate::ErrorKind::NoSpace).
    pub fn fork(&mut self, parent: Sequence, n_tokens: u64) -> Result<Sequence> {
        let (parent, mut child) = (self.id_of(parent)?, 0);
        // SAFETY: the cache lives.
        check(unsafe { sys::oscar_seq_fork(self.as_ptr(), parent, n_tokens, &mut child) })?;
        Ok(self.sequence(child))
    }

    /// Forgets every token from index `n_tokens` on. Tokens that stay keep their bits; for rejected drafts the sequence
    /// is then bit for bit as if they had never been appended.
    ///
    /// # Errors
    /// As for [`Cache::fork`].
    pub fn truncate(&mut self, sequence: Sequence, n_tokens: u64) -> Result<()> {
        let id = self.id_of(sequence)?;
        // SAFETY: the cache lives.
        check(unsafe { sys::oscar_seq_truncate(self.as_ptr(), id, n_tokens) })
    }

    /// Keeps an accepted path of a drafted tree: of the tokens from index `base` on, those at `base + indices[i]` stay
    /// and move to `base + i`; the others are forgotten. `indices` ascend strictly.
    ///
    /// # Errors
    /// As for [`Cache::fork`]; [`State`](crate::ErrorKind::State) also where a token from `base` on is packed already,
    /// dropped by a window, or its votes are counted.
    pub fn accept(&mut self, sequence: Sequence, base: u64, indices: &[u32]) -> Result<()> {
        let id = self.id_of(sequence)?;
        let n = u32::try_from(indices.len())
            .map_err(|_| Error::invalid(format!("{} indices, wanted at most {}", indices.len(), u32::MAX)))?;
        // SAFETY: the cache lives; a slice and its length.
        check(unsafe { sys::oscar_seq_accept(self.as_ptr(), id, base, n, indices.as_ptr()) })
    }

    /// Number of accepted tokens.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound): the sequence is closed.
    pub fn length(&self, sequence: Sequence) -> Result<u64> {
        let (id, mut n_tokens) = (self.id_of(sequence)?, 0);
        // SAFETY: the cache lives.
        check(unsafe { sys::oscar_seq_length(self.as_ptr(), id, &mut n_tokens) })?;
        Ok(n_tokens)
    }

    /// The sequence that has this number in the C ABI; one that does not exist is found out by the first call.
    #[must_use]
    pub fn sequence(&self, id: u64) -> Sequence {
        Sequence { id, owner: if id == 0 { 0 } else { self.owner } }
    }

    /// Begins a step, on a device's default stream: a forward pass that gives every entry's sequence its new tokens.
    ///
    /// First packs what has aged past the recent window, then reserves all memory that the pass can need in all layers,
    /// or fails having changed nothing.
    ///
    /// # Errors
    /// [`NoSpace`](crate::ErrorKind::NoSpace): the pass does not fit. [`NotFound`](crate::ErrorKind::NotFound): a
    /// sequence is closed. [`State`](crate::ErrorKind::State): a sequence is in another open step, or no step slot is
    /// free. [`Invalid`](crate::ErrorKind::Invalid): anything else that is wrong with the entries.
    pub fn begin(&mut self, entries: &[Entry]) -> Result<Step<'_>> {
        self.begin_on(entries, Stream::DEFAULT)
    }

    /// [`Cache::begin`] on a stream: all work of the step goes there.
    ///
    /// # Errors
    /// As for [`Cache::begin`].
    pub fn begin_on(&mut self, entries: &[Entry], stream: Stream) -> Result<Step<'_>> {
        self.begin_step(entries, stream, false)
    }

    /// Begins a step whose layers are done by a CUDA graph that an earlier step captured: it takes no append, attend or
    /// layer calls. It must have as many entries as that one, with the same `n_new`, one after the other; which
    /// sequences these are, padding included, and how long, does not matter.
    ///
    /// # Errors
    /// As for [`Cache::begin`].
    pub fn replay_on(&mut self, entries: &[Entry], stream: Stream) -> Result<Step<'_>> {
        self.begin_step(entries, stream, true)
    }

    fn begin_step(&mut self, entries: &[Entry], stream: Stream, is_replay: bool) -> Result<Step<'_>> {
        let mut raw = std::mem::take(&mut self.entries);
        raw.clear();
        let begun = self.begin_raw(entries, &mut raw, stream, is_replay);
        self.entries = raw;
        let id = begun?;
        let n_rows = entries.iter().map(|entry| entry.n_new as usize).sum();
        let owner = self.owner;
        Ok(Step::new(self, OpenStep { id, owner, n_rows, stream }))
    }

    fn begin_raw(
        &self,
        entries: &[Entry],
        raw: &mut Vec<sys::oscar_step_entry>,
        stream: Stream,
        is_replay: bool,
    ) -> Result<u64> {
        for entry in entries {
            let seq = self.id_of(entry.sequence)?;
            raw.push(sys::oscar_step_entry { seq, n_new: entry.n_new, n_draft: entry.n_draft });
        }
        let args = sys::oscar_step_args {
            struct_size: std::mem::size_of::<sys::oscar_step_args>() as u32,
            n_entries: u32::try_from(raw.len())
                .map_err(|_| Error::invalid(format!("{} entries, wanted at most {}", raw.len(), u32::MAX)))?,
            entries: raw.as_ptr(),
            is_replay: is_replay.into(),
            reserved: 0,
        };
        let mut id = 0;
        // SAFETY: the cache lives, and only begin_step calls this, which has it to itself.
        check(unsafe { sys::oscar_step_begin(self.as_ptr(), &args, stream.raw(), &mut id) })?;
        Ok(id)
    }

    /// Goes on with a step that [`Step::suspend`] left open: with `max_open_steps` > 1 several may be.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): it belongs to another cache.
    pub fn resume(&mut self, step: OpenStep) -> Result<Step<'_>> {
        if step.owner != self.owner {
            return Err(Error::invalid(format!("step {} belongs to another cache", step.id)));
        }
        Ok(Step::new(self, step))
    }

    /// Keys and values of some tokens of one KV head as attention sees them, in the model's own basis.
    ///
    /// * `tokens`: their indices; n in all.
    /// * `k_out`: `[n, key_dim]` F32, F16 or BF16 on the CPU, written.
    /// * `v_out`: `[n, value_dim]`, likewise.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound): the sequence is closed. [`Invalid`](crate::ErrorKind::Invalid):
    /// tokens, layer, head or an output. [`State`](crate::ErrorKind::State): a sliding window has dropped some of the
    /// tokens.
    pub fn read(
        &self,
        sequence: Sequence,
        layer: u32,
        kv_head: u32,
        tokens: Range<u64>,
        k_out: Option<TensorMut<'_>>,
        v_out: Option<TensorMut<'_>>,
    ) -> Result<()> {
        let (id, n) = (self.id_of(sequence)?, count(&tokens)?);
        let k_out = k_out.map_or(ABSENT, |tensor| tensor.raw());
        let v_out = v_out.map_or(ABSENT, |tensor| tensor.raw());
        // SAFETY: the cache lives, and the tensors are borrowed for the call.
        check(unsafe { sys::oscar_read(self.as_ptr(), id, layer, kv_head, tokens.start, n, &k_out, &v_out) })
    }

    /// Importance of some tokens of one KV head. A token that is not packed yet: the attention mass it has received,
    /// summed over the query heads of its KV head. A packed token: +infinity where it was refined, else 0. Exact for
    /// ever (sinks): 0.
    ///
    /// * `tokens`: their indices; n in all.
    /// * `scores_out`: `[n]` F32 on the CPU, written.
    ///
    /// # Errors
    /// As for [`Cache::read`]; [`State`](crate::ErrorKind::State) also where the layer's profile makes no choice:
    /// `n_refined` is 0 or 128, or exact storage.
    pub fn scores(
        &self,
        sequence: Sequence,
        layer: u32,
        kv_head: u32,
        tokens: Range<u64>,
        scores_out: TensorMut<'_>,
    ) -> Result<()> {
        let (id, n) = (self.id_of(sequence)?, count(&tokens)?);
        let scores_out = scores_out.raw();
        // SAFETY: as above.
        check(unsafe { sys::oscar_scores(self.as_ptr(), id, layer, kv_head, tokens.start, n, &scores_out) })
    }

    pub(crate) fn id_of(&self, sequence: Sequence) -> Result<u64> {
        if sequence.owner != self.owner && sequence.owner != 0 {
            return Err(Error::invalid(format!("sequence {} belongs to another cache", sequence.id)));
        }
        Ok(sequence.id)
    }
}

fn count(tokens: &Range<u64>) -> Result<u64> {
    tokens
        .end
        .checked_sub(tokens.start)
        .ok_or_else(|| Error::invalid(format!("tokens {tokens:?} end before they begin")))
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: made by the library, destroyed once; no step borrows it any more.
        unsafe { sys::oscar_cache_destroy(self.as_ptr()) }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Cache");
        if let Ok(stats) = self.stats() {
            shown.field("n_sequences", &stats.n_sequences).field("n_tokens", &stats.n_tokens);
        }
        shown.finish_non_exhaustive()
    }
}
