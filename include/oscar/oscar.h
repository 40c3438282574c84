/* oscar.h - the C ABI of liboscar: a 2-bit key/value cache and attention computed straight from its bits.
 *
 * One token's life: `oscar_append` stores its key and value exactly (BF16); when it leaves the recent window,
 * `oscar_step_begin` packs it, with 127 neighbours, into a progressive block (2 bits per element, more for the tokens
 * that attention has shown to matter); `oscar_attend` reads exact rows and packed blocks alike. Nothing is evicted.
 *
 * A forward pass is a step:
 *
 *     oscar_step_begin(cache, &step_args, stream, &step);           reserves all memory of the pass, or fails whole
 *     for each layer:  oscar_append(...), oscar_attend(...)         or oscar_layer(...), both in one
 *     oscar_step_end(cache, step);                                  the new tokens are there   (or oscar_step_abort)
 *
 * Rules that hold everywhere:
 *   - Every call that can fail returns an oscar_status: 0 is success, negative an error, and oscar_last_error() then
 *     says what was got and what was wanted. A failed call leaves the cache as it was and its outputs NULL or 0.
 *   - The first field of every argument and result struct is struct_size = sizeof(the struct) (oscar_tensor,
 *     oscar_allocator and oscar_step_entry are fixed and have none). A shorter struct, of an older header, is
 *     served with its missing fields zero; a longer one is served when the bytes this library does not know are zero.
 *   - OSCAR_DEFAULT in a uint32_t field asks for the default.
 *   - Threads: calls that take a `const oscar_cache *` may run beside one another. Every other call needs the cache to
 *     itself. Calibration objects are immutable and may be shared by caches and threads.
 *   - The library never prints, never aborts the process, and starts no threads but those that a cache is asked to have
 *     (oscar_cache_config.n_threads). They sleep between calls, block all signals, and end when the cache is destroyed;
 *     the child of a fork() has none of them and must not use the cache.
 *
 * Devices: a cache lives on the CPU or on one CUDA device (oscar_cache_config.device_type), and so do the tensors of its
 * append, attend and layer calls; calibration, read, scores and merge take CPU tensors. On a device these calls put their
 * work on the caller's stream and return: neither they nor step_begin wait for it. Calls without a stream (fork, accept,
 * step_end, read, scores, stats) use that of the cache's latest begin, append or attend, which must still exist; read,
 * scores and stats wait for it. On the CPU `oscar_stream` is NULL.
 */
#ifndef OSCAR_OSCAR_H
#define OSCAR_OSCAR_H

#include <stdint.h>

#if defined(__GNUC__)
#define OSCAR_API __attribute__((visibility("default")))
#else
#define OSCAR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define OSCAR_VERSION_MAJOR 0
#define OSCAR_VERSION_MINOR 1
#define OSCAR_VERSION_PATCH 0
/* Grows only when an old program could no longer run with a new library; the SONAME is liboscar.so.<this>. */
#define OSCAR_ABI_VERSION 1

/* Asks for the default of a uint32_t field. */
#define OSCAR_DEFAULT UINT32_MAX

/* ------------------------------------------------------------------------------------------------ status ---- */

typedef int32_t oscar_status;
enum oscar_status_enum {
  OSCAR_OK = 0,
  OSCAR_E_INVALID = -1,     /* an argument is wrong; the text names it, what was got and what was wanted */
  OSCAR_E_NO_MEMORY = -2,   /* the allocator returned NULL */
  OSCAR_E_NO_SPACE = -3,    /* the cache's capacity is used up; close sequences or create a larger cache */
  OSCAR_E_NOT_FOUND = -4,   /* a sequence or step id that does not exist, or no longer */
  OSCAR_E_STATE = -5,       /* the call is not allowed now, e.g. closing a sequence that an open step uses */
  OSCAR_E_UNSUPPORTED = -6, /* understood, and not served; the text says why */
  OSCAR_E_CORRUPT = -7,     /* the bytes given are not what they claim to be */
  OSCAR_E_BACKEND = -8,     /* the backend asked for is unknown or cannot run here */
  OSCAR_E_INTERNAL = -9,    /* a bug in liboscar: please report it */
  OSCAR_E_DEVICE = -10      /* the device reported an error; its cache can then only be destroyed */
};

/* The version "major.minor.patch" of the library that was loaded. Static text, never NULL. */
OSCAR_API const char *oscar_version(void);

/* OSCAR_ABI_VERSION of the library that was loaded. */
OSCAR_API uint32_t oscar_abi_version(void);

/* The name of a status, e.g. "OSCAR_E_NO_SPACE"; "OSCAR_E_UNKNOWN" for a number this library does not know. */
OSCAR_API const char *oscar_status_name(oscar_status status);

/* What the last failed call of this thread had to say. Never NULL; valid until the thread's next failing call. A call
 * that succeeds does not change it. */
OSCAR_API const char *oscar_last_error(void);

/* One way of computing. */
typedef struct oscar_backend_info {
  uint32_t struct_size;
  uint32_t available; /* 1: can run on this machine */
  uint32_t selected;  /* 1: what a cache created now would use */
  uint32_t reserved;
  char name[32];    /* "reference", "scalar", "avx2", "avx512", "cuda" */
  char reason[192]; /* why it is not available; empty where it is */
} oscar_backend_info;

/* Describes backend number `index`. The environment variable OSCAR_BACKEND forces one of the CPU's by name; "cuda" (device
 * 0) is chosen by a cache's device_type instead.
 *   index     0, 1, ... until OSCAR_E_NOT_FOUND
 *   info_out  struct_size set by the caller */
OSCAR_API oscar_status oscar_backend_get(uint32_t index, oscar_backend_info *info_out);

/* ----------------------------------------------------------------------------------------------- tensors ---- */

/* Numbers of DLPack (DLDeviceType, DLDataTypeCode). */
enum oscar_device_enum { OSCAR_DEVICE_CPU = 1, OSCAR_DEVICE_CUDA = 2 };
enum oscar_dtype_code_enum { OSCAR_DTYPE_INT = 0, OSCAR_DTYPE_UINT = 1, OSCAR_DTYPE_FLOAT = 2, OSCAR_DTYPE_BFLOAT = 4 };

/* A borrowed view of the caller's memory; the library keeps no pointer after a call returns. Fixed for ABI 1.
 * An absent optional tensor has data NULL and ndim 0. Strides count elements; all zero means dense, last dim fastest. Each
 * stride of an output must step over all that the smaller ones reach: no two of its elements share memory. */
typedef struct oscar_tensor {
  void *data;
  int32_t device_type; /* oscar_device_enum */
  int32_t device_id;
  uint8_t dtype_code; /* oscar_dtype_code_enum; F32 = {FLOAT,32}, F16 = {FLOAT,16}, BF16 = {BFLOAT,16} */
  uint8_t dtype_bits;
  uint16_t dtype_lanes; /* 1 */
  int32_t ndim;         /* 1 .. 4 */
  int64_t shape[4];
  int64_t stride[4];
} oscar_tensor;

/* Layout-compatible with cudaStream_t. NULL on the CPU. */
typedef struct oscar_stream_s *oscar_stream;

/* ----------------------------------------------------------------------------------------------- objects ---- */

typedef struct oscar_cache oscar_cache;
typedef struct oscar_calibration oscar_calibration;
typedef struct oscar_calibrator oscar_calibrator;

/* Ids, not pointers: a stale one is OSCAR_E_NOT_FOUND, never a crash, and is not given out again. Sequence 0 is the
 * padding sequence: rows given to it are not stored, their output is 0 and their log-sum-exp -infinity. */
typedef uint64_t oscar_seq;
typedef uint64_t oscar_step;

/* Where host memory comes from. allocate returns NULL when there is none; release gets what allocate got. Both NULL:
 * the C++ heap. Called by create and destroy functions only. */
typedef struct oscar_allocator {
  void *user;
  void *(*allocate)(void *user, uint64_t size, uint64_t alignment);
  void (*release)(void *user, void *memory, uint64_t size, uint64_t alignment);
} oscar_allocator;

/* ------------------------------------------------------------------------------------------------ policy ---- */

typedef uint32_t oscar_storage;
enum oscar_storage_enum {
  OSCAR_STORAGE_BLOCKS = 0, /* tokens that leave the recent window are packed */
  OSCAR_STORAGE_EXACT = 1   /* every token stays BF16: a baseline, and a layer that must not be quantized */
};

typedef uint32_t oscar_writer;
enum oscar_writer_enum {
  OSCAR_WRITER_AUTO = 0,  /* shaped where the calibration has query moments, else plain */
  OSCAR_WRITER_PLAIN = 1, /* every element to its nearest level */
  OSCAR_WRITER_SHAPED = 2 /* rounding errors steered to where queries do not look; needs query moments */
};

/* Geometry and policy of one layer; OSCAR_DEFAULT takes the cache's value. Start from oscar_layer_config_init: 0 has its
 * own meaning, e.g. kv_source 0 is layer 0. struct_size of all entries is the same and not less than here. */
typedef struct oscar_layer_config {
  uint32_t struct_size;
  uint32_t n_q_heads;
  uint32_t n_kv_heads;
  uint32_t key_dim;
  uint32_t value_dim;
  uint32_t window;
  uint32_t storage;
  uint32_t n_refined;
  uint32_t refined_key_bits;
  uint32_t refined_value_bits;
  uint32_t kv_source; /* an earlier layer whose keys and values this one attends to; OSCAR_DEFAULT: its own */
  uint32_t reserved;
} oscar_layer_config;

/* Writes the entry of a layer that takes everything from the cache.
 *   layer_out  gets struct_size = size, reserved 0, and OSCAR_DEFAULT in every other field
 *   size       sizeof(oscar_layer_config)
 * Errors: INVALID (size). */
OSCAR_API oscar_status oscar_layer_config_init(oscar_layer_config *layer_out, uint32_t size);

/* Which elements RoPE turns together, of the first 2 n_pairs elements of a head; the others do not turn. */
typedef uint32_t oscar_rope_pairing;
enum oscar_rope_pairing_enum {
  OSCAR_ROPE_HALF = 0,       /* x[i] with x[i + n_pairs]: Hugging Face's rotate_half, NeoX */
  OSCAR_ROPE_INTERLEAVED = 1 /* x[2 i] with x[2 i + 1]: GPT-J; llama.cpp's order of Llama's heads */
};

typedef uint32_t oscar_value_basis;
enum oscar_value_basis_enum {
  OSCAR_VALUE_BASIS_BALANCED = 0, /* a transform for the values of every KV head */
  OSCAR_VALUE_BASIS_HADAMARD = 1  /* as without calibration: fewer bytes, a faster map, somewhat larger errors */
};

/* How a calibration is to be made, by a calibrator or by the cache itself. */
typedef struct oscar_calibrator_args {
  uint32_t struct_size;
  uint32_t rope_pairing; /* oscar_rope_pairing */
  uint32_t value_basis;  /* oscar_value_basis */
  uint32_t reserved;     /* 0 */
  uint64_t n_positions;  /* positions 0 .. n_positions - 1 will be served; 0: max_tokens of the configuration */
  /* [n_pairs] or [n_layers, n_pairs], F32 on the CPU: radians by which pair i turns from one position to the next, e.g.
   * theta^(-2 i / key_dim); scaled ones for YaRN or Llama 3. 0 does not turn: all zeros for a layer without positions.
   * Absent: unknown. Moments are then taken as they are, and finish demands tokens of all positions to be served. */
  oscar_tensor rope_frequencies;
  const char *model; /* whose tensors these are: UTF-8 of at most 63 bytes for the file, or NULL */
  const char *note;  /* anything else worth remembering, at most 127 bytes, or NULL */
} oscar_calibrator_args;

/* What a cache is made for. Start from oscar_cache_config_init. */
typedef struct oscar_cache_config {
  uint32_t struct_size;
  uint32_t n_layers;
  uint32_t n_q_heads;          /* query heads of a layer, a multiple of n_kv_heads, at most 32 per KV head */
  uint32_t n_kv_heads;         /* key/value heads of a layer */
  uint32_t key_dim;            /* head_dim of queries and keys: 64, 80, 96, 128, 192 or 256 */
  uint32_t value_dim;          /* head_dim of values; OSCAR_DEFAULT or 0: key_dim */
  uint32_t window;             /* sliding window in tokens, the query's own included; 0: attends to everything */
  uint32_t storage;            /* oscar_storage */
  uint32_t n_refined;          /* tokens of every 128, per KV head, kept at the refined widths: 0 .. 128 */
  uint32_t refined_key_bits;   /* 2, 3, 4 or 8; 8 on the CPU only */
  uint32_t refined_value_bits; /* 2, 3, 4 or 8; 8 on the CPU only */
  uint32_t writer;             /* oscar_writer */
  uint32_t n_sink;             /* first tokens of a sequence that stay exact for ever (full-attention layers) */
  uint32_t n_recent;           /* newest tokens that are exact */
  uint32_t max_rollback;       /* newest tokens whose votes wait until they can no longer be taken back; <= n_recent */
  uint32_t max_sequences;      /* sequences open at a time */
  uint32_t max_open_steps;     /* steps open at a time */
  uint32_t max_step_tokens;    /* new tokens of one step, all sequences together */
  uint32_t batch_invariant;    /* 1: a row's bits do not depend on the rest of the batch (always so on the CPU) */
  uint32_t n_layer_configs;    /* entries of `layers`: 0 or n_layers */
  uint64_t max_tokens;         /* longest sequence, in tokens */
  uint64_t capacity_bytes;     /* memory of all sequences together (exact rows, blocks, scores) */
  const oscar_layer_config *layers;     /* per-layer differences, or NULL */
  const oscar_calibration *calibration; /* borrowed until create returns; NULL: data-free */
  oscar_allocator allocator;
  uint32_t device_type;             /* oscar_device_enum: where keys and values lie and attention runs; 0: the CPU */
  int32_t device_id;                /* of a CUDA device: its ordinal */
  oscar_allocator device_allocator; /* where a device's memory comes from; both NULL: cudaMalloc */
  /* borrowed until create returns. Not NULL: the cache is COLLECTING until oscar_cache_freeze, and makes a calibration of
   * its own tokens; `calibration` is then NULL. CPU only */
  const oscar_calibrator_args *self_calibrate;
  /* threads that work for this cache within a call, the caller's among them; 0, 1 or OSCAR_DEFAULT: the caller's alone.
   * Each has a workspace of its own (bytes_fixed). Results do not depend on it. CPU only */
  uint32_t n_threads;
  uint32_t reserved; /* 0 */
} oscar_cache_config;

/* Writes the defaults of a named profile.
 *   config_out  gets struct_size = size and every field its default; geometry (n_layers .. key_dim) is 0: set it
 *   size        sizeof(oscar_cache_config)
 *   profile     "2bit" (4 of 128 tokens refined to 4 bits; also for NULL), "2bit-plain" (none refined),
 *               "k3v2", "3bit", "4bit", "8bit" (CPU only), "exact" (BF16)
 * Errors: INVALID (size, or an unknown profile: the text lists them). */
OSCAR_API oscar_status oscar_cache_config_init(oscar_cache_config *config_out, uint32_t size, const char *profile);

/* What a configuration costs, before any memory is taken. */
typedef struct oscar_cache_report {
  uint32_t struct_size;
  uint32_t served;          /* 1: oscar_cache_create will accept it, memory permitting */
  uint64_t context;         /* tokens of the one sequence that the next fields speak of */
  uint64_t bytes_sequences; /* all that grows with tokens: codes, scales, means, windows, scores, padding, tables */
  uint64_t bytes_fixed;     /* the rest: calibration, workspace, bookkeeping */
  uint64_t bytes_bf16;      /* the same tokens as BF16 keys and values */
  uint64_t block_bytes;     /* one block of 128 tokens of one KV head of layer 0 (0 for exact storage) */
  double bits_per_element;  /* 8 bytes_sequences / elements of keys and values */
  double block_bits_per_element; /* of packed tokens alone, codes + scales + mean + ids */
  char reason[256];              /* why it is not served, or advice; may be empty */
  /* Once a collecting cache is frozen; the fields above speak of it while it collects. The same for any other cache. */
  uint64_t bytes_sequences_frozen;
  uint64_t bytes_fixed_frozen; /* at most: KV heads that stay data-free take less */
} oscar_cache_report;

/* Says whether a configuration is served and predicts its memory exactly: bytes_sequences is what
 * oscar_cache_stats_get reports when one sequence holds `context` tokens and a step for one more has begun.
 * Errors: INVALID (malformed configuration). An understood configuration that is not served is OSCAR_OK with
 * served = 0 and the reason. */
OSCAR_API oscar_status oscar_cache_check(const oscar_cache_config *config, uint64_t context,
                                         oscar_cache_report *report_out);

/* ------------------------------------------------------------------------------------------- calibration ---- */

/* Transforms of one layer. All tensors F32 on the CPU.
 *   key_transform    [n_kv_heads, key_dim, key_dim]      F: keys are stored as k F (row vectors), queries as q F^-T
 *   query_moment     [n_kv_heads, key_dim, key_dim]      E[q^T q] over the group's query heads, symmetric, positive
 *                    definite; absent: no shaped rounding
 *   value_transform  [n_kv_heads, value_dim, value_dim]  F_v: values are stored as v F_v, outputs undone by F_v^-1
 * An absent transform is the data-free one: the orthonormal Hadamard matrix of that size. Transforms need to be
 * invertible, not orthogonal. */
typedef struct oscar_calibration_layer {
  uint32_t struct_size;
  uint32_t n_kv_heads;
  uint32_t key_dim;
  uint32_t value_dim;
  oscar_tensor key_transform;
  oscar_tensor query_moment;
  oscar_tensor value_transform;
} oscar_calibration_layer;

typedef uint32_t oscar_calibration_source;
enum oscar_calibration_source_enum {
  OSCAR_CALIBRATION_MATRICES = 0,   /* oscar_calibration_create */
  OSCAR_CALIBRATION_DATA_FREE = 1,  /* oscar_calibration_default */
  OSCAR_CALIBRATION_IDENTITY = 2,   /* oscar_calibration_identity */
  OSCAR_CALIBRATION_IMPORTED = 3,   /* published rotations */
  OSCAR_CALIBRATION_CALIBRATOR = 4, /* oscar_calibrator_finish */
  OSCAR_CALIBRATION_CACHE = 5       /* oscar_cache_freeze */
};

/* What a calibration is. From n_heads on: as the file remembers it, and, of those that a calibrator or a cache made, for
 * what model and profile (of the first layer that packs), from how many tokens, for which positions. */
typedef struct oscar_calibration_info {
  uint32_t struct_size;
  uint32_t n_layers;
  uint64_t bytes;       /* memory of the object */
  uint64_t fingerprint; /* of its transforms; equal transforms, equal fingerprints */
  uint32_t is_data_free;
  uint32_t is_shaped;         /* 1: every KV head of every layer has a query moment */
  uint32_t n_heads;           /* KV heads of all layers */
  uint32_t n_data_free_heads; /* of these, with Hadamard transforms and plain rounding */
  uint32_t source;            /* oscar_calibration_source */
  uint32_t knows_rope;        /* 1: moments are averaged over the positions to be served */
  uint64_t n_tokens;          /* whose keys counted, in the layer with the fewest */
  uint64_t n_positions;       /* positions 0 .. n_positions - 1 are to be served */
  uint64_t end_position;      /* tokens came from the positions before this one */
  uint32_t n_refined;
  uint32_t refined_key_bits;
  uint32_t refined_value_bits;
  uint32_t reserved;
  char objective[64]; /* what the transforms minimise */
  char model[64];
  char note[128];
} oscar_calibration_info;

/* One KV head of a calibration. */
typedef struct oscar_calibration_head_info {
  uint32_t struct_size;
  uint32_t is_data_free;
  uint32_t is_shaped;      /* 1: it has a query moment */
  uint32_t has_own_values; /* 1: its value transform is a matrix */
  uint64_t fingerprint;    /* of its transforms, wherever the head stands; for comparing ranks and files */
} oscar_calibration_head_info;

/* Consecutive KV heads of one layer. */
typedef struct oscar_calibration_part {
  uint32_t layer;
  uint32_t first_kv_head;
  uint32_t n_kv_heads;
} oscar_calibration_part;

/* The data-free calibration of a configuration's geometry: Hadamard transforms, plain rounding. */
OSCAR_API oscar_status oscar_calibration_default(const oscar_cache_config *config, oscar_calibration **calibration_out);

/* The identity: codes in the keys' own basis. For study and for tests. */
OSCAR_API oscar_status oscar_calibration_identity(const oscar_cache_config *config,
                                                  oscar_calibration **calibration_out);

/* From explicit matrices, which are copied. `layers` has n_layers entries.
 * Errors: INVALID (shapes, non-finite, singular or too ill-conditioned, moment not positive definite: the text names
 * layer and head). */
OSCAR_API oscar_status oscar_calibration_create(const oscar_calibration_layer *layers, uint32_t n_layers,
                                                oscar_calibration **calibration_out);

/* Serializes. bytes NULL: only size_out is written. Errors: INVALID (capacity smaller than *size_out). */
OSCAR_API oscar_status oscar_calibration_save(const oscar_calibration *calibration, void *bytes, uint64_t capacity,
                                              uint64_t *size_out);

/* Reads what oscar_calibration_save wrote. Any bytes yield a status. Errors: CORRUPT (checksum, sizes, contents, or a
 * version that this library does not read; the text says which). */
OSCAR_API oscar_status oscar_calibration_load(const void *bytes, uint64_t size, oscar_calibration **calibration_out);

/* Files of rotations as torch.save writes them and the authors of OSCAR (arXiv 2605.17757) publish them. */
typedef struct oscar_calibration_import_args {
  uint32_t struct_size;
  uint32_t n_layer_ids;    /* entries of layer_ids: 0, or n_layers of the configuration */
  const void *key_bytes;   /* the file of key rotations; NULL: data-free keys */
  uint64_t key_size;       /* bytes */
  const void *value_bytes; /* the file of value rotations; NULL: data-free values */
  uint64_t value_size;     /* bytes */
  const uint32_t
      *layer_ids; /* of every layer its id in the files; OSCAR_DEFAULT: a data-free layer. NULL: the files have
                                the same layers, n_layers of them, and rising ids are layers 0, 1, ... */
} oscar_calibration_import_args;

/* Makes a calibration from published rotations. A rotation R, [d, d] for all KV heads of a layer or [n_kv_heads, d, d],
 * is the layer's key_transform or value_transform as it is: it was made for rows k R. There are no query moments, so
 * rounding is plain. Nothing in a file is executed, and any bytes yield a status. docs/calibration-import.md says what is
 * read and what is checked.
 *   config  gives the layers and their heads
 *   args    the bytes are borrowed for the call
 * Errors: CORRUPT (bytes that torch.save does not write, or whose content is no rotation: not finite, not orthogonal; the
 * text says what and where); UNSUPPORTED (compressed or zip64 archives, pickles that name anything but tensors, other
 * formats); INVALID (arguments, or files that do not fit the configuration). */
OSCAR_API oscar_status oscar_calibration_import_torch(const oscar_cache_config *config,
                                                      const oscar_calibration_import_args *args,
                                                      oscar_calibration **calibration_out);

OSCAR_API oscar_status oscar_calibration_info_get(const oscar_calibration *calibration,
                                                  oscar_calibration_info *info_out);

/* Describes one KV head. Errors: INVALID (there is no such head). */
OSCAR_API oscar_status oscar_calibration_head_get(const oscar_calibration *calibration, uint32_t layer,
                                                  uint32_t kv_head, oscar_calibration_head_info *info_out);

/* The calibration of some layers and KV heads, e.g. of one rank under tensor or pipeline parallelism: its layer i is
 * parts[i]. Heads keep their transforms and fingerprints.
 * Errors: INVALID (a part that is not there, or none). */
OSCAR_API oscar_status oscar_calibration_slice(const oscar_calibration *calibration,
                                               const oscar_calibration_part *parts, uint32_t n_parts,
                                               oscar_calibration **calibration_out);

/* NULL is fine. A cache keeps what it needs: its calibration may be destroyed before it. */
OSCAR_API void oscar_calibration_destroy(oscar_calibration *calibration);

/* -------------------------------------------------------------------------------------------- calibrator ---- */

/* A calibrator makes a calibration from what a model computes for a text: create, feed every layer, finish. It keeps
 * second moments per KV head and one open block of keys, never the tensors: its size does not depend on how many tokens
 * it has seen. A few thousand tokens of ordinary text are plenty, 256 are enough. docs/calibration.md has the formulas.
 *
 * RoPE: keys near the start of a text say little about the directions in which later ones will lie. Given the
 * frequencies, the calibrator undoes the rotation and averages over all positions to be served, in closed form. */

/* Some tokens of one sequence at consecutive positions, as one layer of the model has them. CPU tensors, F32, F16 or
 * BF16, any strides with the last dimension dense. */
typedef struct oscar_calibrator_feed_args {
  uint32_t struct_size;
  uint32_t layer;
  uint64_t first_position; /* of row 0; where it is not the last call's end, another sequence begins */
  oscar_tensor q;          /* [n, n_q_heads, key_dim], with positions (RoPE) already applied */
  oscar_tensor k;          /* [n, n_kv_heads, key_dim], likewise; absent for a layer with kv_source */
  oscar_tensor v;          /* [n, n_kv_heads, value_dim]; absent for a layer with kv_source */
} oscar_calibrator_feed_args;

/* Begins a calibration.
 *   config  the cache's: geometry, storage, kv_source, max_tokens and n_sink count, its calibration does not; borrowed
 *           for the call
 * Errors: INVALID. */
OSCAR_API oscar_status oscar_calibrator_create(const oscar_cache_config *config, const oscar_calibrator_args *args,
                                               oscar_calibrator **calibrator_out);

/* Counts tokens of one layer, in any number of calls and any order of layers. The first n_sink positions of a sequence
 * do not count: a cache keeps them exact. Neither do the last tokens of a sequence that fill less than half a block of
 * 128 (their keys only).
 * Errors: INVALID (shapes, an element that is not finite: nothing was counted). */
OSCAR_API oscar_status oscar_calibrator_feed(oscar_calibrator *calibrator, const oscar_calibrator_feed_args *args);

/* Solves for the key transform, the query moment and, unless Hadamard was asked for, the value transform of every KV
 * head. A layer with exact storage or kv_source stores no blocks and gets no transforms; it need not be fed, but the
 * queries of one with kv_source count for its source. Moments get 1e-3 of their mean eigenvalue on the diagonal: a few
 * tokens, of lower rank than the head's dimension, are served. The calibrator can be fed on and finished again.
 * Errors: STATE (a layer was fed nothing or too little: less than 128 or key_dim keys; without frequencies, less than
 * all positions); INVALID (keys that do not vary, queries or values that are zero). The text names layer and head. */
OSCAR_API oscar_status oscar_calibrator_finish(const oscar_calibrator *calibrator, oscar_calibration **calibration_out);

/* NULL is fine. */
OSCAR_API void oscar_calibrator_destroy(oscar_calibrator *calibrator);

/* ------------------------------------------------------------------------------------------------- cache ---- */

typedef uint32_t oscar_cache_state;
enum oscar_cache_state_enum {
  OSCAR_CACHE_FROZEN = 0,    /* transforms are fixed, and what ages is packed */
  OSCAR_CACHE_COLLECTING = 1 /* every token is exact, and moments are gathered for oscar_cache_freeze */
};

typedef struct oscar_cache_stats {
  uint32_t struct_size;
  uint32_t n_sequences;
  uint32_t n_open_steps;
  uint32_t state;           /* oscar_cache_state */
  uint64_t n_tokens;        /* accepted tokens of all sequences */
  uint64_t n_packed_tokens; /* summed over sequences: the most tokens that any one layer reads from blocks */
  uint64_t n_blocks; /* blocks of 128 tokens in use (reserved, while collecting), over all layer classes; shared ones
                               count once */
  uint64_t n_exact_pages; /* pages of 16 exact rows in use, over all layer classes */
  uint64_t
      n_non_finite; /* elements that were NaN or infinite when packed, and were stored as 0; also in steps that were aborted */
  uint64_t bytes_sequences; /* as in oscar_cache_report, for all sequences */
  uint64_t bytes_fixed;
  uint64_t bytes_slabs; /* capacity in slabs that hold something of a sequence: bytes_sequences and free places for more
                           of the same kind */
  uint64_t bytes_free;  /* capacity in empty slabs, free for anything */
  double bits_per_element;    /* 8 bytes_sequences / elements of n_tokens; 0 without tokens */
  uint64_t bytes_calibration; /* part of bytes_fixed: the transforms, and what is gathered while collecting */
  /* bytes_sequences by what they are for; these five together. */
  uint64_t bytes_base;         /* of blocks: 2-bit codes, scales, means, headers, and the padding of a block */
  uint64_t bytes_refined;      /* of blocks: refinement codes and ids */
  uint64_t bytes_exact;        /* pages of exact rows */
  uint64_t bytes_scores;       /* votes of tokens that are not packed yet */
  uint64_t bytes_tables;       /* where a sequence has its blocks and pages */
  uint64_t bytes_shared;       /* what would come on top if nobody shared blocks */
  uint64_t n_shared_blocks;    /* of n_blocks, those that more than one sequence holds */
  uint64_t n_block_references; /* holds of blocks by sequences (and open steps): n_blocks where nothing is shared */
  /* Since the cache was created. */
  uint64_t n_steps;            /* that have ended */
  uint64_t n_blocks_packed;    /* by steps that have begun or ended, and by freeze, over all layer classes */
  uint64_t n_rollbacks;        /* truncate and accept calls that forgot tokens */
  uint64_t n_tokens_forgotten; /* by these */
} oscar_cache_stats;

/* Creates a cache. Takes all memory it will ever need: capacity_bytes, workspace, tables. (With self_calibrate:
 * oscar_cache_freeze takes more.)
 * Errors: INVALID, UNSUPPORTED (the reason of oscar_cache_check), NO_MEMORY, BACKEND. */
OSCAR_API oscar_status oscar_cache_create(const oscar_cache_config *config, oscar_cache **cache_out);

/* Closes everything; NULL is fine. */
OSCAR_API void oscar_cache_destroy(oscar_cache *cache);

OSCAR_API oscar_status oscar_cache_stats_get(const oscar_cache *cache, oscar_cache_stats *stats_out);

/* What was packed of one layer since the cache was created, by any of its sequences. An element is clipped where it lies
 * beyond the outermost level's cell of its token's code: 4.6 % of a Gaussian's at 2 bits. A block is worse where its transform is
 * expected to lead to a larger error than a data-free one: the calibration was made from another distribution
 * (docs/serving.md). The differences of two looks give the recent shares. */
typedef struct oscar_layer_stats {
  uint32_t struct_size;
  uint32_t reserved;         /* 0 */
  uint64_t n_blocks;         /* packed, of each KV head by itself */
  uint64_t n_key_elements;   /* packed */
  uint64_t n_keys_clipped;   /* of these */
  uint64_t n_keys_worse;     /* of n_blocks, by their keys; 0 for heads whose keys are data-free */
  uint64_t n_value_elements; /* likewise of values */
  uint64_t n_values_clipped;
  uint64_t n_values_worse;
  uint64_t n_non_finite; /* elements of both that were NaN or infinite, and were stored as 0 */
} oscar_layer_stats;

/* Counts of one layer; all 0 for one that is exact or has a kv_source: it packs nothing.
 * Errors: INVALID (there is no such layer); UNSUPPORTED (a cache on a device, whose kernels pack there and do not count). */
OSCAR_API oscar_status oscar_layer_stats_get(const oscar_cache *cache, uint32_t layer, oscar_layer_stats *stats_out);

typedef uint32_t oscar_log_level;
enum oscar_log_level_enum {
  OSCAR_LOG_INFO = 1,
  OSCAR_LOG_WARNING = 2 /* all is well defined, and somebody should know */
};

typedef uint32_t oscar_log_event;
enum oscar_log_event_enum {
  OSCAR_EVENT_FREEZE = 1,     /* INFO: what oscar_cache_freeze has made */
  OSCAR_EVENT_DATA_FREE = 2,  /* WARNING: KV heads of a layer that freeze left data-free, and why */
  OSCAR_EVENT_NO_SPACE = 3,   /* WARNING: a call was refused with NO_SPACE; the text is oscar_last_error's */
  OSCAR_EVENT_NON_FINITE = 4, /* WARNING: elements of a layer that were NaN or infinite were packed as 0. CPU only */
  OSCAR_EVENT_DRIFT = 5       /* WARNING: of the 16 or more blocks of a layer packed last, most are worse
                                 (oscar_layer_stats); again only after they were not. CPU only */
};

/* One thing that has happened. */
typedef struct oscar_log_record {
  uint32_t struct_size;
  uint32_t level;   /* oscar_log_level */
  uint32_t event;   /* oscar_log_event */
  uint32_t layer;   /* OSCAR_DEFAULT: of no one layer */
  const char *text; /* UTF-8, one line, without a line break; valid until the call returns */
} oscar_log_record;

/* Where a cache's records go. */
typedef struct oscar_log_args {
  uint32_t struct_size;
  uint32_t min_level; /* oscar_log_level: records of this level and above; 0: all */
  void *user;         /* for `write` */
  /* Is called on the thread of the call that has something to tell, when that call has done its work, before it returns;
   * nothing is locked. It may make calls that take a `const oscar_cache *` of this cache, and any of others. It must return:
   * a C++ exception that leaves it is dropped. NULL: nowhere */
  void (*write)(void *user, const oscar_log_record *record);
} oscar_log_args;

/* Tells a cache where its records go from now on; a new one has nowhere. Each cache has a place of its own, and caches on
 * several threads may share one that locks. The library writes nowhere else.
 * Errors: INVALID (min_level). */
OSCAR_API oscar_status oscar_cache_log_set(oscar_cache *cache, const oscar_log_args *args);

/* Ends COLLECTING. A cache with self_calibrate keeps every token exact at first and gathers, within attend and step_end,
 * the moments that a calibrator gathers: keys and values of whole blocks of 128 tokens (counted from n_sink on; the last 64
 * and more of a sequence count too), queries of tokens that are no drafts. A token's position is its index in its sequence.
 * One block in four is held out. Freeze solves for the transforms of every KV head with the others, packs the held-out keys
 * and values both ways, keeps the new transform where its error is smaller than the data-free one's (then from all tokens),
 * keys and values apart, and packs what has aged: from then on this is a cache like any other, with the same sequences. A
 * head that no transform can be made for stays data-free. The refined tokens are those that votes chose when the block
 * aged. While collecting, a cache takes memory beyond its own for the length of an attend or step_end, and NO_SPACE comes
 * as soon as the exact rows fill capacity_bytes: nothing is lost then, and freeze makes room. Freeze may take seconds, and
 * needs memory for a while: about what the calibration takes, twice.
 *   calibration_out  NULL, or gets the calibration that the cache now uses, to be saved and destroyed by the caller
 * Errors, which change nothing: STATE (not created with self_calibrate, frozen already, a step is open, too few tokens: a
 * sequence of n_sink + 192 has enough for a key_dim of up to 128; without rope_frequencies, positions to be served that no
 * token has had); NO_MEMORY. */
OSCAR_API oscar_status oscar_cache_freeze(oscar_cache *cache, oscar_calibration **calibration_out);

/* An estimate of how many tokens a new sequence could be given now, one at a time, before a step is refused with
 * NO_SPACE. Longer steps reserve more at once, and free places in slabs of other kinds cannot always be used: leave a
 * margin of a step and a few slabs. */
OSCAR_API oscar_status oscar_cache_capacity(const oscar_cache *cache, uint64_t *n_tokens_out);

/* ------------------------------------------------------------------------------------------------ sequences -- */

/* Opens an empty sequence. Errors: NO_SPACE (max_sequences, or the pool). */
OSCAR_API oscar_status oscar_seq_open(oscar_cache *cache, oscar_seq *seq_out);

/* Frees a sequence and what it shares with nobody. Errors: NOT_FOUND; STATE (in an open step). */
OSCAR_API oscar_status oscar_seq_close(oscar_cache *cache, oscar_seq seq);

/* A new sequence with the first n_tokens of `parent`: blocks are shared, exact rows copied.
 * Errors: NOT_FOUND; STATE (in an open step, or a sliding window has already dropped tokens that the child would see);
 * INVALID (n_tokens > length); NO_SPACE. */
OSCAR_API oscar_status oscar_seq_fork(oscar_cache *cache, oscar_seq parent, uint64_t n_tokens, oscar_seq *child_out);

/* Forgets every token from index n_tokens on. Tokens that stay keep their bits; for rejected drafts the sequence is
 * then bit for bit as if they had never been appended. Errors: as for fork. */
OSCAR_API oscar_status oscar_seq_truncate(oscar_cache *cache, oscar_seq seq, uint64_t n_tokens);

/* Keeps an accepted path of a drafted tree: of the tokens from index `base` on, those at base + indices[0..n-1] stay
 * and move to base .. base+n-1; the others are forgotten. indices ascend strictly.
 * Errors: as for truncate; STATE (a token from base on is packed already, dropped by a window, or its votes are counted). */
OSCAR_API oscar_status oscar_seq_accept(oscar_cache *cache, oscar_seq seq, uint64_t base, uint32_t n,
                                        const uint32_t *indices);

/* Number of accepted tokens. */
OSCAR_API oscar_status oscar_seq_length(const oscar_cache *cache, oscar_seq seq, uint64_t *n_tokens_out);

/* Where an exported sequence goes, piece after piece. */
typedef struct oscar_export_args {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  uint64_t n_tokens; /* the first n_tokens of the sequence; 0: all */
  void *user;        /* for `write` */
  /* Takes the next `size` bytes. Anything but OSCAR_OK ends the export, which then fails with that status. It must not
   * call the library with this cache. NULL: nothing is written, only size_out */
  oscar_status (*write)(void *user, const void *bytes, uint64_t size);
} oscar_export_args;

/* Where the bytes of an exported sequence come from. */
typedef struct oscar_import_args {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  void *user;        /* for `read` */
  /* Fills all of the next `size` bytes. Anything but OSCAR_OK (OSCAR_E_CORRUPT where there are no more bytes) ends the
   * import, which then fails with that status. It must not call the library with this cache */
  oscar_status (*read)(void *user, void *bytes, uint64_t size);
} oscar_import_args;

/* Writes a sequence, or a prefix of it, as bytes that say what they are: geometry, profile, the calibration's fingerprint,
 * checksums (docs/export.md). Equal sequences give equal bytes. Streams: takes memory for one piece, of one block of 128
 * tokens in all layers of a class, not for a copy of the sequence. The bytes hold codes and exact rows of the model's
 * keys and values: as secret as the text.
 *   size_out  bytes of the whole export; 0 where it fails
 * Errors: NOT_FOUND; STATE (in an open step; the cache is collecting; a sliding window has dropped tokens that a sequence
 * of n_tokens would see); INVALID (n_tokens > length); UNSUPPORTED (a cache on a device); NO_MEMORY; what `write` gave:
 * what was written is then no export. */
OSCAR_API oscar_status oscar_seq_export(const oscar_cache *cache, oscar_seq seq, const oscar_export_args *args,
                                        uint64_t *size_out);

/* Opens a sequence from what oscar_seq_export wrote, by a cache of any capacity, limits and backend whose layers, n_sink,
 * n_recent, max_rollback and calibration are the same. It goes on as the exported one would have. Reads the export's bytes
 * and none behind them; any bytes yield a status, and memory for one piece and the pool's units is all that is taken.
 * Errors, which change nothing: CORRUPT (not an export, another version, damaged; the text says what); INVALID (an export of
 * another geometry, profile or calibration: the text says which and what was wanted); NO_SPACE (max_sequences, max_tokens
 * or the pool, with the bytes short); STATE (the cache is collecting); UNSUPPORTED (a cache on a device); NO_MEMORY; what
 * `read` gave. */
OSCAR_API oscar_status oscar_seq_import(oscar_cache *cache, const oscar_import_args *args, oscar_seq *seq_out);

/* ----------------------------------------------------------------------------------------------------- steps -- */

/* As n_draft: the entry's n_new rows are queries only. Nothing is appended, their keys and values are not read, and they
 * do not vote. Each attends to every token of the sequence: what context parallelism asks of the caches that do not get the
 * new token; oscar_merge joins the results. An empty sequence gives output 0 and log-sum-exp -infinity. */
#define OSCAR_QUERY_ONLY UINT32_MAX

typedef struct oscar_step_entry {
  oscar_seq seq;    /* 0: padding rows */
  uint32_t n_new;   /* tokens that this step appends, drafts included; >= 1 */
  uint32_t n_draft; /* the last n_draft of them may be rejected: n_draft < max_rollback, n_draft <= n_new; or
                       OSCAR_QUERY_ONLY */
} oscar_step_entry;

typedef struct oscar_step_args {
  uint32_t struct_size;
  uint32_t n_entries; /* each sequence at most once, except 0 */
  const oscar_step_entry *entries;
  uint32_t is_replay; /* 1: a CUDA graph does the work of the layers, see below; else 0 */
  uint32_t reserved;
} oscar_step_args;

/* Begins a step. First packs what has aged past the recent window of its sequences, by accepted length; then reserves
 * every block and page that the pass can need in all layers, or fails having changed nothing. Rows of the step's tensors
 * are the entries' new tokens, one entry after the other: row count = sum of n_new.
 * CUDA graphs: within a step of at most 128 sure tokens a sequence, the append, attend and layer calls of all layers may be
 * captured, and the graph launched for this step and for later ones. Those begin with is_replay = 1 and take no append,
 * attend or layer calls; they must have as many entries with the same n_new, one after the other; which sequences these
 * are, padding included, and how long, does not matter. With max_open_steps > 1 a graph belongs to the order in which its
 * step was opened. begin, end, truncate and fork are never captured.
 * Errors: NO_SPACE; NOT_FOUND; STATE (a sequence is in another open step, no step slot is free, or is_replay while the
 * cache is collecting); INVALID; UNSUPPORTED (OSCAR_QUERY_ONLY with a sliding window: its positions are another cache's). */
OSCAR_API oscar_status oscar_step_begin(oscar_cache *cache, const oscar_step_args *args, oscar_stream stream,
                                        oscar_step *step_out);

/* Commits: the new tokens now belong to their sequences.
 * Errors: NOT_FOUND; STATE (a layer has not been given its keys and values; the step stays open). */
OSCAR_API oscar_status oscar_step_end(oscar_cache *cache, oscar_step step);

/* Drops the step: every sequence is as it was after what begin does for accepted tokens: packing, and, where the step had
 * more than max_rollback sure tokens, counting the votes of all accepted queries, which can then no longer be taken back. */
OSCAR_API oscar_status oscar_step_abort(oscar_cache *cache, oscar_step step);

/* ----------------------------------------------------------------------------------------------------- layer -- */

/* F32, F16 or BF16; any strides with the last dimension dense. n = rows of the step. */
typedef struct oscar_append_args {
  uint32_t struct_size;
  uint32_t layer;
  oscar_tensor k; /* [n, n_kv_heads, key_dim], with positions (RoPE) already applied */
  oscar_tensor v; /* [n, n_kv_heads, value_dim] */
} oscar_append_args;

/* Stores the step's keys and values of one layer, rounded to BF16. Neither allocates nor blocks. Calling it again for
 * the same layer before its attention overwrites. A layer with kv_source takes no append.
 * Errors: NOT_FOUND; INVALID; STATE. */
OSCAR_API oscar_status oscar_append(oscar_cache *cache, oscar_step step, const oscar_append_args *args,
                                    oscar_stream stream);

/* out = softmax(softcap(scale q k^T) + causal/window/tree mask) v, over the sequence and the step's own tokens. */
typedef struct oscar_attend_args {
  uint32_t struct_size;
  uint32_t layer;
  oscar_tensor q;           /* [n, n_q_heads, key_dim] F32, F16 or BF16 */
  oscar_tensor out;         /* [n, n_q_heads, value_dim] F32, F16 or BF16 */
  oscar_tensor lse;         /* optional, [n, n_q_heads] F32: natural log of the softmax denominator, sink included */
  oscar_tensor sink_logits; /* optional, [n_q_heads] F32: a learned logit whose value is zero */
  oscar_tensor mask;        /* optional, [n, max n_new] UINT8: row i of an entry attends to the entry's new token j < i
                               where mask[row][j] != 0, and always to itself. Absent: the chain (causal) */
  float scale;              /* 0: 1/sqrt(key_dim) */
  float softcap;            /* c > 0: logits become c tanh(logit / c); 0: off */
} oscar_attend_args;

/* Attention of one layer. Neither allocates nor blocks. In a step of more than 128 new tokens of a sequence, the tokens
 * that age within the step are packed here, after the layer's last attention.
 * Errors: NOT_FOUND; INVALID; STATE (the layer has no keys yet in this step, or they have left the scratch). */
OSCAR_API oscar_status oscar_attend(oscar_cache *cache, oscar_step step, const oscar_attend_args *args,
                                    oscar_stream stream);

typedef struct oscar_layer_args {
  uint32_t struct_size;
  uint32_t layer;
  oscar_tensor k;
  oscar_tensor v;
  oscar_tensor q;
  oscar_tensor out;
  oscar_tensor lse;
  oscar_tensor sink_logits;
  oscar_tensor mask;
  float scale;
  float softcap;
} oscar_layer_args;

/* oscar_append and oscar_attend in one call. All arguments are checked before anything is written. */
OSCAR_API oscar_status oscar_layer(oscar_cache *cache, oscar_step step, const oscar_layer_args *args,
                                   oscar_stream stream);

/* --------------------------------------------------------------------------------------------------- inspect -- */

/* Keys and values of tokens [first, first + n) of one KV head as attention sees them, in the model's own basis.
 *   k_out  [n, key_dim] or absent, v_out [n, value_dim] or absent; F32, F16 or BF16
 * Errors: NOT_FOUND; INVALID (range); STATE (the window has dropped some of them). */
OSCAR_API oscar_status oscar_read(const oscar_cache *cache, oscar_seq seq, uint32_t layer, uint32_t kv_head,
                                  uint64_t first, uint64_t n, const oscar_tensor *k_out, const oscar_tensor *v_out);

/* Importance of tokens [first, first + n) of one KV head. A token that is not packed yet: the attention mass it has
 * received, summed over the query heads of its KV head. A packed token: +infinity where it was refined, else 0 (and so where
 * a collecting cache has reserved its block). Exact for ever (sinks): 0.
 *   scores_out  [n] F32
 * Errors: NOT_FOUND; INVALID; STATE (this layer's profile makes no choice: n_refined is 0 or 128, or exact storage; or the
 * window has dropped some of the tokens). */
OSCAR_API oscar_status oscar_scores(const oscar_cache *cache, oscar_seq seq, uint32_t layer, uint32_t kv_head,
                                    uint64_t first, uint64_t n, const oscar_tensor *scores_out);

/* ---------------------------------------------------------------------------------------------------- pieces -- */

/* Joins attention over disjoint sets of tokens (context parallelism):
 *     lse = log sum_p exp(lse_p),   out = sum_p exp(lse_p - lse) out_p
 *   outs      [n_parts, ..., d]  F32, up to 4 dimensions, dense
 *   lses      [n_parts, ...]     F32, dense
 *   out, lse  the same without the first dimension, F32, dense; lse may be absent, and is [1] where outs is [n_parts, d]
 * A row whose parts are all empty (lse -infinity) gives 0 and -infinity. Parts with lse +infinity outweigh all others and
 * share equally; their row's lse is +infinity. A NaN among the lses makes its row NaN, and no other. */
OSCAR_API oscar_status oscar_merge(const oscar_tensor *outs, const oscar_tensor *lses, const oscar_tensor *out,
                                   const oscar_tensor *lse, oscar_stream stream);

#ifdef __cplusplus
}
#endif

#endif /* OSCAR_OSCAR_H */
