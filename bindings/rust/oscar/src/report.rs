//! Figures that the library reports about itself.

use std::mem::size_of;

use crate::config::Config;
use crate::error::{check as check_status, ErrorKind, Result};
use crate::{sys, text};

/// What a configuration costs for one sequence of `context` tokens, before any memory is taken.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// [`Cache::new`](crate::Cache::new) will accept it, memory permitting.
    pub served: bool,
    /// Tokens of the one sequence that the next fields speak of.
    pub context: u64,
    /// All that grows with tokens: codes, scales, means, windows, scores, padding, tables.
    pub bytes_sequences: u64,
    /// The rest: calibration, workspace, bookkeeping.
    pub bytes_fixed: u64,
    /// The same tokens as BF16 keys and values.
    pub bytes_bf16: u64,
    /// One block of 128 tokens of one KV head of layer 0; 0 for exact storage.
    pub block_bytes: u64,
    /// `8 bytes_sequences / elements of keys and values`.
    pub bits_per_element: f64,
    /// Of packed tokens alone: codes, scales, mean and ids.
    pub block_bits_per_element: f64,
    /// Why it is not served, or advice; may be empty.
    pub reason: String,
    /// Once a collecting cache is frozen; the fields above speak of it while it collects. The same for any other cache.
    pub bytes_sequences_frozen: u64,
    /// Likewise, at most: KV heads that stay data-free take less.
    pub bytes_fixed_frozen: u64,
}

/// Says whether a configuration is served, and predicts its memory exactly: `bytes_sequences` is what
/// [`Cache::stats`](crate::Cache::stats) reports when one sequence holds `context` tokens and a step for one more has
/// begun. A configuration that is understood and not served has `served` false and the reason.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid): a malformed configuration.
pub fn check(config: &Config, context: u64) -> Result<Report> {
    let mut raw = sys::oscar_cache_report {
        struct_size: size_of::<sys::oscar_cache_report>() as u32,
        ..sys::oscar_cache_report::default()
    };
    // SAFETY: both structs say how large they are.
    check_status(config.with_raw(|config| unsafe { sys::oscar_cache_check(config, context, &mut raw) }))?;
    Ok(Report {
        served: raw.served != 0,
        context: raw.context,
        bytes_sequences: raw.bytes_sequences,
        bytes_fixed: raw.bytes_fixed,
        bytes_bf16: raw.bytes_bf16,
        block_bytes: raw.block_bytes,
        bits_per_element: raw.bits_per_element,
        block_bits_per_element: raw.block_bits_per_element,
        reason: text::of_field(&raw.reason),
        bytes_sequences_frozen: raw.bytes_sequences_frozen,
        bytes_fixed_frozen: raw.bytes_fixed_frozen,
    })
}

/// What a cache does with tokens that leave the recent window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheState(pub u32);

impl CacheState {
    /// Transforms are fixed, and what ages is packed.
    pub const FROZEN: CacheState = CacheState(sys::OSCAR_CACHE_FROZEN);
    /// Every token is exact, and moments are gathered for [`Cache::freeze`](crate::Cache::freeze).
    pub const COLLECTING: CacheState = CacheState(sys::OSCAR_CACHE_COLLECTING);
}

/// What a cache holds now.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Open sequences.
    pub n_sequences: u32,
    /// Open steps.
    pub n_open_steps: u32,
    /// Whether it packs, or collects.
    pub state: CacheState,
    /// Accepted tokens of all sequences.
    pub n_tokens: u64,
    /// Summed over sequences: the most tokens that any one layer reads from blocks.
    pub n_packed_tokens: u64,
    /// Blocks of 128 tokens in use (reserved, while collecting), over all layer classes; shared ones count once.
    pub n_blocks: u64,
    /// Pages of 16 exact rows in use, over all layer classes.
    pub n_exact_pages: u64,
    /// Elements that were NaN or infinite when packed, and were stored as 0; also in steps that were aborted.
    pub n_non_finite: u64,
    /// As in [`Report`], for all sequences.
    pub bytes_sequences: u64,
    /// As in [`Report`].
    pub bytes_fixed: u64,
    /// Capacity in slabs that hold something of a sequence: `bytes_sequences` and free places for more of the same
    /// kind.
    pub bytes_slabs: u64,
    /// Capacity in empty slabs, free for anything.
    pub bytes_free: u64,
    /// `8 bytes_sequences / elements of n_tokens`; 0 without tokens.
    pub bits_per_element: f64,
    /// Part of `bytes_fixed`: the transforms, and what is gathered while collecting.
    pub bytes_calibration: u64,
    /// `bytes_sequences` by what they are for. Of blocks: 2-bit codes, scales, means, headers, and padding.
    pub bytes_base: u64,
    /// Of blocks: refinement codes and ids.
    pub bytes_refined: u64,
    /// Pages of exact rows.
    pub bytes_exact: u64,
    /// Votes of tokens that are not packed yet.
    pub bytes_scores: u64,
    /// Where a sequence has its blocks and pages.
    pub bytes_tables: u64,
    /// What would come on top of `bytes_sequences` if nobody shared blocks.
    pub bytes_shared: u64,
    /// Of `n_blocks`, those that more than one sequence holds.
    pub n_shared_blocks: u64,
    /// Holds of blocks by sequences (and open steps): `n_blocks` where nothing is shared.
    pub n_block_references: u64,
    /// Since the cache was created: steps that have ended.
    pub n_steps: u64,
    /// Blocks packed by steps that have begun or ended, and by freeze, over all layer classes.
    pub n_blocks_packed: u64,
    /// Calls of truncate and accept that forgot tokens.
    pub n_rollbacks: u64,
    /// Tokens that these forgot.
    pub n_tokens_forgotten: u64,
}

impl Stats {
    pub(crate) fn of(cache: *const sys::oscar_cache) -> Result<Stats> {
        let mut raw = sys::oscar_cache_stats {
            struct_size: size_of::<sys::oscar_cache_stats>() as u32,
            ..sys::oscar_cache_stats::default()
        };
        // SAFETY: the caller's cache lives; the struct says how large it is.
        check_status(unsafe { sys::oscar_cache_stats_get(cache, &mut raw) })?;
        Ok(Stats {
            n_sequences: raw.n_sequences,
            n_open_steps: raw.n_open_steps,
            state: CacheState(raw.state),
            n_tokens: raw.n_tokens,
            n_packed_tokens: raw.n_packed_tokens,
            n_blocks: raw.n_blocks,
            n_exact_pages: raw.n_exact_pages,
            n_non_finite: raw.n_non_finite,
            bytes_sequences: raw.bytes_sequences,
            bytes_fixed: raw.bytes_fixed,
            bytes_slabs: raw.bytes_slabs,
            bytes_free: raw.bytes_free,
            bits_per_element: raw.bits_per_element,
            bytes_calibration: raw.bytes_calibration,
            bytes_base: raw.bytes_base,
            bytes_refined: raw.bytes_refined,
            bytes_exact: raw.bytes_exact,
            bytes_scores: raw.bytes_scores,
            bytes_tables: raw.bytes_tables,
            bytes_shared: raw.bytes_shared,
            n_shared_blocks: raw.n_shared_blocks,
            n_block_references: raw.n_block_references,
            n_steps: raw.n_steps,
            n_blocks_packed: raw.n_blocks_packed,
            n_rollbacks: raw.n_rollbacks,
            n_tokens_forgotten: raw.n_tokens_forgotten,
        })
    }
}

/// One way of computing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backend {
    /// `"reference"`, `"scalar"`, `"avx2"`, `"avx512"` or `"cuda"`.
    pub name: String,
    /// Can run on this machine.
    pub available: bool,
    /// What a cache created now would use.
    pub selected: bool,
    /// Why it is not available; empty where it is.
    pub reason: String,
}

/// All backends that the library was built with. The environment variable `OSCAR_BACKEND` forces one of the CPU's
/// by name; `"cuda"` is chosen by [`Config::device`] instead.
///
/// # Errors
/// None of its own: those of a broken library.
pub fn backends() -> Result<Vec<Backend>> {
    let mut found = Vec::new();
    loop {
        let mut raw = sys::oscar_backend_info {
            struct_size: size_of::<sys::oscar_backend_info>() as u32,
            ..sys::oscar_backend_info::default()
        };
        // SAFETY: the struct says how large it is.
        match check_status(unsafe { sys::oscar_backend_get(found.len() as u32, &mut raw) }) {
            Ok(()) => found.push(Backend {
                name: text::of_field(&raw.name),
                available: raw.available != 0,
                selected: raw.selected != 0,
                reason: text::of_field(&raw.reason),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        }
    }
}

/// The version "major.minor.patch" of the library that was loaded.
#[must_use]
pub fn version() -> String {
    // SAFETY: static text.
    unsafe { text::owned(sys::oscar_version()) }
}

/// The number of the C ABI of the library that was loaded; `oscar::sys::OSCAR_ABI_VERSION` is the one of the bindings.
#[must_use]
pub fn abi_version() -> u32 {
    // SAFETY: it takes nothing.
    unsafe { sys::oscar_abi_version() }
}
