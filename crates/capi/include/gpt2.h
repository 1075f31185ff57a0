/*
 * gpt2.h: GPT-2 on small computers, from C.
 *
 * A model is a GGUF file in memory; a session is a cache and threads for one user of it:
 *
 *     gpt2_model *model;
 *     gpt2_session *session;
 *     if (gpt2_model_load("model.gguf", NULL, &model) < 0 ||
 *         gpt2_session_new(model, NULL, &session) < 0) {
 *         fprintf(stderr, "error: %s\n", gpt2_last_error());
 *         return 1;
 *     }
 *
 * What holds of every function, unless its own comment says otherwise:
 *
 * Errors     The result is GPT2_OK (0) or one of the negative GPT2_ERROR_ codes; the text of the
 *            calling thread's last failure is gpt2_last_error(). After a failure everything is as
 *            it was before the call, and a handle that was to be made is NULL. No failure ends the
 *            program, and none prints.
 * Handles    gpt2_model, gpt2_session, gpt2_output, gpt2_generation, gpt2_sampler and gpt2_results
 *            are made by this library and freed by the function whose name ends in _free; freeing
 *            NULL does nothing. A handle is not a pointer to anything: one that is NULL, was freed
 *            or is of another kind is found out and refused (GPT2_ERROR_HANDLE). Handles may be
 *            freed in any order and from any thread: what still needs a model, such as its
 *            sessions, keeps it.
 * Threads    Any function may be called from any thread. One model serves any number of sessions at
 *            once. A session or a sampler serves one call at a time: a second one, from another
 *            thread or from a callback, is refused (GPT2_ERROR_BUSY).
 * Memory     What is passed in belongs to the caller and is not kept after the call. What a
 *            function fills is the caller's as well: `capacity` says how many elements fit, and
 *            *length becomes how many there are to write (length may be NULL). When they do not fit
 *            nothing is written and the result is GPT2_ERROR_BUFFER. With NULL and a capacity of 0
 *            the call only reports the length.
 * Texts      UTF-8. A text with a length may hold NULs; with GPT2_NUL_TERMINATED for its length it
 *            ends at the first. A text that is written ends in a NUL, which needs room and is not
 *            counted in *length.
 * Structures Each begins with its size. Options are set by their _init function, with sizeof the
 *            structure, and NULL stands for the defaults; of a structure that is filled, set `size`
 *            before. Fields are only ever added at the end, so a program goes on working with later
 *            libraries, and with earlier ones as long as it leaves the fields they do not know at
 *            zero (GPT2_ERROR_UNSUPPORTED otherwise). Reserved fields must be 0, and a size must
 *            end where a field ends (GPT2_ERROR_ARGUMENT otherwise).
 * Callbacks  Are called during the call they are given to, with its `user_data`, on the calling
 *            thread, except where it says otherwise. They must return: no longjmp, no C++ exception
 *            through them.
 * Forks      A child made by fork() may use every handle of its parent, and free it: sessions go on
 *            there with threads of the child's. Two exceptions: a session or sampler that was at
 *            work on another thread at the time of the fork can only be freed there
 *            (GPT2_ERROR_BUSY), and devices other than the CPU cannot be used in a child whose
 *            parent has used this library (GPT2_ERROR_UNSUPPORTED). A file in memory is released in
 *            parent and child, each its copy. Copies made without the C library's fork(), such as
 *            by a bare clone(), may only exec or _exit.
 */
#ifndef GPT2_H
#define GPT2_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ version, errors, log */

#define GPT2_VERSION_MAJOR 0
#define GPT2_VERSION_MINOR 1
#define GPT2_VERSION_PATCH 0
/* The version of this header. */
#define GPT2_VERSION (GPT2_VERSION_MAJOR << 16 | GPT2_VERSION_MINOR << 8 | GPT2_VERSION_PATCH)

/* The length of a text that ends at its first NUL. */
#define GPT2_NUL_TERMINATED SIZE_MAX

/* What functions return. */
typedef int32_t gpt2_status;
enum {
    GPT2_OK = 0,
    GPT2_ERROR_ARGUMENT = -1,     /* an argument is outside what the function allows */
    GPT2_ERROR_IO = -2,           /* a file cannot be opened, read, mapped or written */
    GPT2_ERROR_FORMAT = -3,       /* a file is broken, or a model's values are NaN or infinite */
    GPT2_ERROR_UNSUPPORTED = -4,  /* not done by this library, or by this build of it */
    GPT2_ERROR_CONTEXT_FULL = -5, /* more positions are needed than there are */
    GPT2_ERROR_MEMORY = -6,       /* not enough memory */
    GPT2_ERROR_STOPPED = -7,      /* stopped by the caller */
    GPT2_ERROR_BACKEND = -8,      /* a computation failed */
    GPT2_ERROR_BUFFER = -9,       /* the caller's buffer is too small */
    GPT2_ERROR_HANDLE = -10,      /* a handle is NULL, was freed, or is of another kind */
    GPT2_ERROR_BUSY = -11,        /* the handle is in use by another call */
    GPT2_ERROR_INTERNAL = -12     /* an internal error: a bug */
};

/* The version of the library that is linked: compare it with GPT2_VERSION. Cannot fail. */
uint32_t gpt2_version(void);

/* What the library is made of, a line each: its version, ggml's, the devices and the processor's
 * features in use. The text stays for the life of the process. Cannot fail. */
const char *gpt2_build_info(void);

/* The text of the calling thread's last failure: what was expected, what was found, what to do;
 * empty before the first. It stays until the thread's next failure. Cannot fail. */
const char *gpt2_last_error(void);

enum {
    GPT2_LOG_ERROR = 1,
    GPT2_LOG_WARN = 2,
    GPT2_LOG_INFO = 3,
    GPT2_LOG_DEBUG = 4,
    GPT2_LOG_TRACE = 5
};
typedef void (*gpt2_log_callback)(int32_t level, const char *message, void *user_data);

/* Names the one function of the process that is handed what library and ggml report, up to a level;
 * NULL for none, as at the start. It is called from any thread, several at once, with a line
 * without its end; a call that has begun may go on after another function is named.
 * Errors: GPT2_ERROR_ARGUMENT for an unknown level; GPT2_ERROR_UNSUPPORTED in a Rust program that
 * has a `tracing` subscriber of its own. */
gpt2_status gpt2_set_log_callback(int32_t level, gpt2_log_callback callback, void *user_data);

/* ------------------------------------------------------------------ models */

typedef struct gpt2_model gpt2_model;

typedef struct gpt2_model_options {
    size_t size;
    int32_t map;      /* use the file where it is mapped, shared with other processes; default 1 */
    int32_t lock;     /* keep it from being swapped out; default 0 */
    int32_t repack;   /* move matrices into a layout that is multiplied faster; default 1 */
    int32_t reserved; /* 0 */
    /* devices to compute on beside the CPU, each as `gpt2 devices` lists it (such as "cuda0") or
     * rpc://HOST:PORT; default none */
    const char *const *devices;
    size_t n_devices;   /* how many */
    /* layers on the GPUs among them, counted from the last, the head as one; default -1, all */
    int64_t gpu_layers;
    /* most bytes of memory that the process is to use; default 0, what is free */
    uint64_t memory;
} gpt2_model_options;

/* Sets the fields that `size` bytes have room for to their defaults.
 * Errors: GPT2_ERROR_ARGUMENT for a size that ends within a field. */
gpt2_status gpt2_model_options_init(gpt2_model_options *options, size_t size);

/* Opens a GGUF file; *model is to be freed with gpt2_model_free. The file must not change while the
 * model lives.
 * Errors: GPT2_ERROR_IO, GPT2_ERROR_FORMAT for a broken file, GPT2_ERROR_UNSUPPORTED for a model
 * that is not a GPT-2 this library runs, GPT2_ERROR_ARGUMENT for a device that is not there,
 * GPT2_ERROR_MEMORY for a model that does not fit. */
gpt2_status gpt2_model_load(const char *file, const gpt2_model_options *options,
                            gpt2_model **model);

typedef void (*gpt2_release_callback)(void *user_data);

/* For memory that stays as long as the program: a release that has nothing to do. */
static inline void gpt2_keep(void *user_data) { (void)user_data; }

/* Opens a GGUF file that is in memory. Without `release` the bytes are copied and the caller's at
 * once. With it they are used where they are (aligned to 64 bytes, without a copy of the weights),
 * must not change, and belong to the model until `release` is called: once, from any thread, when
 * nothing uses them any more. After a failure they are the caller's, and `release` is not called.
 * Errors: as gpt2_model_load. */
gpt2_status gpt2_model_load_memory(const uint8_t *data, size_t bytes,
                                   const gpt2_model_options *options, gpt2_release_callback release,
                                   void *user_data, gpt2_model **model);

/* Frees a model; its sessions keep what they need.
 * Errors: GPT2_ERROR_HANDLE. */
gpt2_status gpt2_model_free(gpt2_model *model);

typedef struct gpt2_model_info {
    size_t size;
    /* transformers' name, such as GPT2LMHeadModel; stays as long as the model */
    const char *model_class;
    size_t vocabulary;       /* token ids, and columns of the logits */
    size_t positions;        /* most tokens of a text */
    size_t width;            /* hidden size (n_embd) */
    size_t layers;           /* n_layer */
    size_t heads;            /* attention heads of a layer (n_head) */
    size_t labels;           /* outputs of the task's head; 0 without one */
    size_t mapped_bytes;     /* weights used where the file lies */
    size_t own_bytes;        /* weights in memory of their own */
    int64_t bos;             /* the token that begins a text; -1: none */
    /* the (first) token that ends a text; -1: none; see gpt2_token_is_end */
    int64_t eos;
    int64_t pad;             /* the padding token; -1: none */
    int32_t has_tokenizer;   /* 0: the model works on ids alone */
    int32_t predicts_tokens; /* 0: its class has no logits of tokens */
} gpt2_model_info;

/* Says what a model is; set info->size before.
 * Errors: GPT2_ERROR_HANDLE, GPT2_ERROR_ARGUMENT. */
gpt2_status gpt2_model_get_info(const gpt2_model *model, gpt2_model_info *info);

/* The name of label `label`.
 * Errors: GPT2_ERROR_ARGUMENT for an index out of range, GPT2_ERROR_BUFFER, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_model_label(const gpt2_model *model, size_t label, char *text, size_t capacity,
                             size_t *length);

/* ------------------------------------------------------------------ text and tokens */

enum {
    /* <|endoftext|> and the like are text, and nothing is put around it: for text that is not
     * trusted */
    GPT2_TOKENIZE_ORDINARY = 1
};

/* The tokens of a text.
 * Errors: GPT2_ERROR_ARGUMENT for text that is not UTF-8, GPT2_ERROR_FORMAT or
 * GPT2_ERROR_UNSUPPORTED for a file without a tokenizer that can be used, GPT2_ERROR_BUFFER,
 * GPT2_ERROR_HANDLE. */
gpt2_status gpt2_tokenize(const gpt2_model *model, const char *text, size_t text_bytes,
                          uint32_t flags, uint32_t *tokens, size_t capacity, size_t *length);

enum {
    GPT2_DETOKENIZE_SKIP_SPECIAL = 1 /* leave out tokens that are markers, not text */
};

/* The text of tokens, with U+FFFD for bytes that are not a whole character.
 * Errors: GPT2_ERROR_ARGUMENT for ids outside the vocabulary; otherwise as gpt2_tokenize. */
gpt2_status gpt2_detokenize(const gpt2_model *model, const uint32_t *tokens, size_t n_tokens,
                            uint32_t flags, char *text, size_t capacity, size_t *length);

/* The bytes that one token adds to a text, without a NUL: written one after the other they are the
 * text, while one token's need not be whole characters.
 * Errors: as gpt2_detokenize. */
gpt2_status gpt2_token_bytes(const gpt2_model *model, uint32_t token, uint8_t *bytes,
                             size_t capacity, size_t *length);

/* Whether a token is one of those that end a text.
 * Errors: GPT2_ERROR_ARGUMENT for an id outside the vocabulary, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_token_is_end(const gpt2_model *model, uint32_t token, int32_t *is_end);

/* The token that the vocabulary files write as `text`, such as <|endoftext|>.
 * Errors: GPT2_ERROR_ARGUMENT when there is none; otherwise as gpt2_tokenize. */
gpt2_status gpt2_find_token(const gpt2_model *model, const char *text, uint32_t *token);

/* ------------------------------------------------------------------ sessions */

typedef struct gpt2_session gpt2_session;

enum {
    GPT2_CACHE_DEFAULT = 0, /* f16; f32 for a model of f32 matrices */
    GPT2_CACHE_F32 = 1,
    GPT2_CACHE_F16 = 2,
    GPT2_CACHE_Q8_0 = 3,
    GPT2_CACHE_Q4_0 = 4
};
enum {
    GPT2_FLASH_ATTENTION_AUTO = 0,
    GPT2_FLASH_ATTENTION_ON = 1,
    GPT2_FLASH_ATTENTION_OFF = 2
};

typedef struct gpt2_session_options {
    size_t size;
    /* positions of the cache, of all sequences together; 0: what the model has, for each sequence
     * */
    size_t context;
    size_t batch_size;       /* most tokens computed together; 0: 256 */
    size_t sequences;        /* sequences in the cache, numbered from 0, 1 to 64; default 1 */
    size_t threads;          /* 0: one per physical core */
    /* most bytes, weights included; a context of 0 is shortened to fit; 0: no limit */
    uint64_t memory_limit;
    int32_t cache_type;      /* GPT2_CACHE_ */
    int32_t flash_attention; /* GPT2_FLASH_ATTENTION_ */
} gpt2_session_options;

/* Sets the fields that `size` bytes have room for to their defaults.
 * Errors: GPT2_ERROR_ARGUMENT for a size that ends within a field. */
gpt2_status gpt2_session_options_init(gpt2_session_options *options, size_t size);

/* Starts a session; *session is to be freed with gpt2_session_free. It keeps the model.
 * Errors: GPT2_ERROR_ARGUMENT for an option out of its range, GPT2_ERROR_UNSUPPORTED for a cache
 * type that does not fit the model's heads, GPT2_ERROR_MEMORY, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_session_new(const gpt2_model *model, const gpt2_session_options *options,
                             gpt2_session **session);

/* Ends a session. A call that is at work in it is stopped, as gpt2_session_stop does, and this
 * function returns after it: no callback of it comes later. So it must not be called with a lock
 * that such a callback waits for. Called from a callback, of this session or of another, it does
 * not wait: the handle is gone at once, and the session is freed when the call that is at work in
 * it returns.
 * Errors: GPT2_ERROR_HANDLE. */
gpt2_status gpt2_session_free(gpt2_session *session);

/* With `stop` not 0 ends the call that is at work in the session, from any thread but not from a
 * signal handler, and every later one until it is called with 0: computations end with
 * GPT2_ERROR_STOPPED, a generation with what there is. Never GPT2_ERROR_BUSY.
 * Errors: GPT2_ERROR_HANDLE. */
gpt2_status gpt2_session_stop(gpt2_session *session, int32_t stop);

typedef struct gpt2_memory {
    size_t size;
    size_t weights; /* bytes of the model's weights */
    size_t cache;   /* bytes of the cache when it is full */
    size_t compute; /* bytes of intermediate results */
} gpt2_memory;

/* Says what a session occupies; set memory->size before.
 * Errors: GPT2_ERROR_HANDLE, GPT2_ERROR_BUSY, GPT2_ERROR_ARGUMENT. */
gpt2_status gpt2_session_get_memory(const gpt2_session *session, gpt2_memory *memory);

/* ------------------------------------------------------------------ computing */

/* Appends tokens to a sequence (0 in a session of one) and gives the logits of the last, one a
 * token of the vocabulary. `logits` may be NULL with a capacity of 0: the tokens are computed all
 * the same.
 * Errors: GPT2_ERROR_ARGUMENT for no tokens, ids outside the vocabulary or a sequence that the
 * session does not have; GPT2_ERROR_CONTEXT_FULL; GPT2_ERROR_BUFFER, before anything is computed;
 * GPT2_ERROR_UNSUPPORTED for a class without logits; GPT2_ERROR_STOPPED, GPT2_ERROR_BACKEND,
 * GPT2_ERROR_MEMORY, GPT2_ERROR_BUSY, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_prefill(gpt2_session *session, uint32_t sequence, const uint32_t *tokens,
                         size_t n_tokens, float *logits, size_t capacity, size_t *length);

/* Appends one token to a sequence and gives its logits.
 * Errors: as gpt2_prefill. */
gpt2_status gpt2_decode(gpt2_session *session, uint32_t sequence, uint32_t token, float *logits,
                        size_t capacity, size_t *length);

/* What comes out of a batch; to be added. */
enum {
    GPT2_LOGITS = 1,            /* [rows, vocabulary] */
    GPT2_LAST_HIDDEN_STATE = 2, /* [rows, width], after the final layer norm */
    /* layers + 1 matrices [rows, width]: the embeddings, what each layer but the last gave, and the
     * last hidden state (transformers' hidden_states) */
    GPT2_HIDDEN_STATES = 4,
    /* a matrix [rows, heads, positions] for each layer: probabilities */
    GPT2_ATTENTIONS = 8
};

/* Tokens of one sequence or of many, to be computed together: each list has n_tokens elements or is
 * NULL. */
typedef struct gpt2_batch {
    size_t size;
    const uint32_t *tokens;
    size_t n_tokens;
    const uint32_t *sequences;    /* the sequence of each; NULL: 0 */
    /* the place of each in its sequence, ascending in each sequence, none that is there already;
     * NULL: after what the cache holds of it */
    const uint32_t *positions;
    const uint32_t *position_ids; /* the row of the position embedding of each; NULL: its place */
    const uint32_t *token_types;  /* a token whose embedding is added to each; NULL: none */
    const uint8_t *masked;        /* not 0: no other token sees it; NULL: all are seen */
    const uint8_t *wanted;        /* not 0: it has a row in what comes out; NULL: all have */
    uint32_t outputs;             /* what comes out; default GPT2_LOGITS */
    uint32_t reserved;            /* 0 */
    /* not 0: each token has the bits that it has when it is computed alone, whatever is computed
     * with it; slower from a handful of tokens on. For models whose matrices are computed by this
     * library's kernels, on the CPU */
    int32_t batch_invariant;
    int32_t reserved_2;           /* 0 */
} gpt2_batch;

/* Sets the fields that `size` bytes have room for to their defaults.
 * Errors: GPT2_ERROR_ARGUMENT for a size that ends within a field. */
gpt2_status gpt2_batch_init(gpt2_batch *batch, size_t size);

typedef struct gpt2_output gpt2_output;

/* Computes a batch and keeps it in the cache; *output is to be freed with gpt2_output_free. A batch
 * without tokens has no rows.
 * Errors: GPT2_ERROR_ARGUMENT for a place that is given twice or is in the cache already, and for
 * outputs that are unknown; otherwise as gpt2_prefill. */
gpt2_status gpt2_run(gpt2_session *session, const gpt2_batch *batch, gpt2_output **output);

/* How many tokens of the batch have a row.
 * Errors: GPT2_ERROR_HANDLE, GPT2_ERROR_ARGUMENT. */
gpt2_status gpt2_output_rows(const gpt2_output *output, size_t *rows);

/* The shape of `what`, one of GPT2_LOGITS and so on: two dimensions, three for attentions.
 * Errors: GPT2_ERROR_ARGUMENT for what the batch did not ask for, GPT2_ERROR_BUFFER,
 * GPT2_ERROR_HANDLE. */
gpt2_status gpt2_output_shape(const gpt2_output *output, uint32_t what, size_t *shape,
                              size_t capacity, size_t *length);

/* Copies `what`, row-major; of hidden states and attentions the matrix of layer `layer`, otherwise
 * 0.
 * Errors: as gpt2_output_shape. */
gpt2_status gpt2_output_read(const gpt2_output *output, uint32_t what, size_t layer, float *values,
                             size_t capacity, size_t *length);

/* Frees an output.
 * Errors: GPT2_ERROR_HANDLE. */
gpt2_status gpt2_output_free(gpt2_output *output);

/* ------------------------------------------------------------------ the cache
 * Errors of all of these: GPT2_ERROR_ARGUMENT for a sequence that the session does not have,
 * GPT2_ERROR_BUSY, GPT2_ERROR_HANDLE. */

/* How many tokens the cache holds of a sequence. */
gpt2_status gpt2_cache_length(const gpt2_session *session, uint32_t sequence, size_t *length);

/* The tokens that the cache holds of a sequence.
 * Errors: GPT2_ERROR_BUFFER as well. */
gpt2_status gpt2_cache_tokens(const gpt2_session *session, uint32_t sequence, uint32_t *tokens,
                              size_t capacity, size_t *length);

/* Cuts a sequence back to its first `length` tokens; a length beyond its own changes nothing. */
gpt2_status gpt2_cache_truncate(gpt2_session *session, uint32_t sequence, size_t length);

/* Keeps of a sequence what `tokens` begin with as well, and cuts the rest: *kept tokens need not be
 * computed again. `kept` may be NULL. */
gpt2_status gpt2_cache_keep(gpt2_session *session, uint32_t sequence, const uint32_t *tokens,
                            size_t n_tokens, size_t *kept);

/* Makes sequence `to` share the tokens of `from`, without a copy; what `to` had is dropped. */
gpt2_status gpt2_cache_fork(gpt2_session *session, uint32_t from, uint32_t to);

/* Empties the cache of all sequences. */
gpt2_status gpt2_cache_clear(gpt2_session *session);

/* Writes what the cache holds of a sequence to a file, which appears whole or not at all; an
 * existing one needs `overwrite`.
 * Errors: GPT2_ERROR_IO as well. */
gpt2_status gpt2_cache_save(const gpt2_session *session, uint32_t sequence, const char *file,
                            int32_t overwrite);

/* Puts what gpt2_cache_save wrote in place of what a sequence holds; *length (NULL is allowed) is
 * how many tokens.
 * Errors: GPT2_ERROR_ARGUMENT for a file of another model or cache type, GPT2_ERROR_FORMAT for a
 * broken one, GPT2_ERROR_CONTEXT_FULL, GPT2_ERROR_IO as well. */
gpt2_status gpt2_cache_restore(gpt2_session *session, uint32_t sequence, const char *file,
                               size_t *length);

/* ------------------------------------------------------------------ generating */

/* A negative number leaves the default. */
typedef struct gpt2_generate_options {
    size_t size;
    int64_t max_new_tokens;    /* most tokens of a continuation; default 128 */
    uint64_t seed;             /* starts the draws; default 0 */
    int32_t do_sample;         /* 1: draw; 0: take the best; default 0 */
    int32_t ignore_eos;        /* 1: never choose a token that ends the text; default 0 */
    double temperature;        /* above 0; default 1 */
    int64_t top_k;             /* draw from the k most likely, 0 from all; default 50 */
    /* draw from the most likely of this probability together; default 1 */
    double top_p;
    double repetition_penalty; /* above 1 makes tokens seen before less likely; default 1 */
    /* Every other parameter of transformers' generate(), as texts "name=value" with the value
     * written as in generation_config.json: "num_beams=4", "suppress_tokens=[1,2]",
     * "early_stopping=never". "stop=TEXT", which may be repeated, ends the text before TEXT. They
     * are applied in their order, after the fields above. */
    const char *const *parameters;
    size_t n_parameters;
} gpt2_generate_options;

/* Sets the fields that `size` bytes have room for to their defaults.
 * Errors: GPT2_ERROR_ARGUMENT for a size that ends within a field. */
gpt2_status gpt2_generate_options_init(gpt2_generate_options *options, size_t size);

/* Why a continuation ended. */
enum {
    GPT2_FINISH_EOS = 0,          /* the model ended the text */
    GPT2_FINISH_LENGTH = 1,       /* max_new_tokens */
    GPT2_FINISH_STOP = 2,         /* a stop string */
    GPT2_FINISH_CONTEXT_FULL = 3, /* no room for another token */
    GPT2_FINISH_TIME = 4,         /* max_time */
    GPT2_FINISH_STOPPED = 5       /* a callback or gpt2_session_stop */
};

/* A token of a continuation; or, with `finished`, its end. Nothing of it stays after the callback.
 * */
typedef struct gpt2_step {
    size_t size;
    size_t sequence;       /* which of the continuations, from 0 */
    /* text that became certain: whole characters, no part of a stop string, often empty */
    const char *text;
    size_t text_bytes;
    uint32_t token;        /* 0 at the end */
    int32_t finished;      /* not 0: no token, but the rest of the text and why there is no more */
    int32_t finish_reason; /* GPT2_FINISH_, at the end */
    int32_t reserved;      /* 0 */
} gpt2_step;

/* Another result than 0 ends the generation with what there is; at the end it has no meaning. */
typedef int32_t (*gpt2_token_callback)(const gpt2_step *step, void *user_data);

typedef struct gpt2_generation gpt2_generation;

/* Continues a prompt. What sequence 0 of the session holds already is kept as far as it begins the
 * prompt. `callback` (NULL for none) is handed every token as it comes, then the end of each
 * continuation; a beam search decides at its end, then. *generation has the result and is to be
 * freed with gpt2_generation_free; `generation` may be NULL. Some methods need a session of several
 * sequences (gpt2_session_options): num_beams of them, 2 for guidance_scale, and top_k for
 * contrastive search (penalty_alpha).
 * Errors: GPT2_ERROR_ARGUMENT for options out of their range, unknown parameters, an empty prompt,
 * too few sequences; otherwise as gpt2_prefill. A call ended by gpt2_session_stop is no error: it
 * gives what there is, before the first token a continuation without tokens and with an empty text
 * (GPT2_FINISH_STOPPED). */
gpt2_status gpt2_generate(gpt2_session *session, const uint32_t *prompt, size_t n_prompt,
                          const gpt2_generate_options *options, gpt2_token_callback callback,
                          void *user_data, gpt2_generation **generation);

/* How many continuations there are; 0 for a handle that is not alive. */
size_t gpt2_generation_count(const gpt2_generation *generation);

/* A continuation; the prompt is not part of it. Its pointers stay until the generation is freed. */
typedef struct gpt2_continuation {
    size_t size;
    const uint32_t *tokens; /* every token chosen, with the one that ended the text */
    size_t n_tokens;
    const char *text;       /* up to a stop string and without special tokens */
    size_t text_bytes;
    double score;           /* what a search ranks by; NaN without one */
    int32_t finish_reason;  /* GPT2_FINISH_ */
    int32_t reserved;       /* 0 */
} gpt2_continuation;

/* Gives continuation `index`; set continuation->size before.
 * Errors: GPT2_ERROR_ARGUMENT for an index out of range, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_generation_get(const gpt2_generation *generation, size_t index,
                                gpt2_continuation *continuation);

/* With logits = 0 the scores that token `token` of continuation `index` was chosen by (with the
 * parameter "output_scores=true"), otherwise the model's logits ("output_logits=true"); one for
 * each token of the vocabulary.
 * Errors: GPT2_ERROR_ARGUMENT when there are none, GPT2_ERROR_BUFFER, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_generation_scores(const gpt2_generation *generation, size_t index, size_t token,
                                   int32_t logits, float *values, size_t capacity, size_t *length);

typedef struct gpt2_timings {
    size_t size;
    size_t prefill_tokens;  /* tokens of the prompt that were computed */
    size_t decode_tokens;   /* tokens computed after it */
    double prefill_seconds;
    double decode_seconds;  /* from the first choice to the last */
} gpt2_timings;

/* Says how long it took; set timings->size before.
 * Errors: GPT2_ERROR_HANDLE, GPT2_ERROR_ARGUMENT. */
gpt2_status gpt2_generation_get_timings(const gpt2_generation *generation, gpt2_timings *timings);

/* Frees a generation.
 * Errors: GPT2_ERROR_HANDLE. */
gpt2_status gpt2_generation_free(gpt2_generation *generation);

/* ------------------------------------------------------------------ choosing tokens from logits */

typedef struct gpt2_sampler gpt2_sampler;

/* Makes a sampler for a text that begins with `prompt`: the processors and the seed that `options`
 * ask for. Methods that need more than logits (beams, contrastive search, lookup) have no effect
 * here. *sampler is to be freed with gpt2_sampler_free.
 * Errors: GPT2_ERROR_ARGUMENT for options out of their range, unknown parameters, ids outside the
 * vocabulary; GPT2_ERROR_HANDLE. */
gpt2_status gpt2_sampler_new(const gpt2_model *model, const gpt2_generate_options *options,
                             const uint32_t *prompt, size_t n_prompt, gpt2_sampler **sampler);

/* Changes `scores` in place; minus infinity rules a token out. `tokens` are the prompt and all that
 * followed. */
typedef void (*gpt2_processor_callback)(float *scores, size_t n_scores, const uint32_t *tokens,
                                        size_t n_tokens, void *user_data);

/* Adds a processor of the program's own, after those that act without sampling and before
 * temperature, top_k and the like. It is called by gpt2_sampler_choose and gpt2_sampler_process, on
 * their thread, until the sampler is freed.
 * Errors: GPT2_ERROR_ARGUMENT, GPT2_ERROR_BUSY, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_sampler_add(gpt2_sampler *sampler, gpt2_processor_callback callback,
                             void *user_data);

/* Chooses the next token, draws or takes the best, and counts it among those so far. `logits` stay
 * as they are.
 * Errors: GPT2_ERROR_ARGUMENT for a wrong number of logits, GPT2_ERROR_FORMAT when a logit is NaN
 * or every token is ruled out, GPT2_ERROR_BUSY, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_sampler_choose(gpt2_sampler *sampler, const float *logits, size_t n_logits,
                                uint32_t *token);

/* Turns logits into the scores after every processor, in place, and chooses nothing.
 * Errors: as gpt2_sampler_choose. */
gpt2_status gpt2_sampler_process(gpt2_sampler *sampler, float *logits, size_t n_logits);

/* Counts a token that was chosen otherwise among those so far.
 * Errors: GPT2_ERROR_ARGUMENT for an id outside the vocabulary, GPT2_ERROR_BUSY, GPT2_ERROR_HANDLE.
 * */
gpt2_status gpt2_sampler_accept(gpt2_sampler *sampler, uint32_t token);

/* Frees a sampler, after a call that is at work in it; from a callback without waiting, as
 * gpt2_session_free.
 * Errors: GPT2_ERROR_HANDLE. */
gpt2_status gpt2_sampler_free(gpt2_sampler *sampler);

/* ------------------------------------------------------------------ tasks
 * What the cache has of sequence 0 is dropped. Errors of all of these: GPT2_ERROR_UNSUPPORTED for a
 * model of another class; otherwise as gpt2_tokenize and gpt2_prefill. */

typedef struct gpt2_results gpt2_results;

/* A row of results. Its pointers stay until the results are freed. What a task does not give is 0,
 * NaN or empty. */
typedef struct gpt2_result {
    size_t size;
    const char *label;
    const char *text;
    uint64_t id;  /* the number of the label, token or choice */
    size_t start; /* characters (code points) of the text, from 0 */
    size_t end;   /* one more than the last */
    float score;  /* how sure the model is */
    float logit;  /* what the head gave */
} gpt2_result;

/* How many rows there are; 0 for a handle that is not alive. */
size_t gpt2_results_count(const gpt2_results *results);

/* Gives row `index`; set result->size before.
 * Errors: GPT2_ERROR_ARGUMENT for an index out of range, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_results_get(const gpt2_results *results, size_t index, gpt2_result *result);

/* Frees results.
 * Errors: GPT2_ERROR_HANDLE. */
gpt2_status gpt2_results_free(gpt2_results *results);

enum {
    GPT2_SCORES_DEFAULT = 0, /* as the model's problem asks */
    GPT2_SCORES_SOFTMAX = 1,
    GPT2_SCORES_SIGMOID = 2,
    GPT2_SCORES_NONE = 3
};

/* Sequence classification: a row for each label (label, id, score, logit), the best first. *results
 * is to be freed with gpt2_results_free. */
gpt2_status gpt2_classify(gpt2_session *session, const char *text, size_t text_bytes,
                          int32_t scores, gpt2_results **results);

enum {
    GPT2_TAG_TOKENS = 0,        /* a row for each token */
    GPT2_TAG_WORDS_FIRST = 1,   /* for each word, labelled as its first token */
    GPT2_TAG_WORDS_AVERAGE = 2, /* for each word, with the label of the largest mean probability */
    GPT2_TAG_WORDS_MAX = 3,     /* for each word, labelled as its surest token */
    GPT2_TAG_ENTITIES = 4       /* for each name that words labelled B-... and I-... make up */
};

/* Token classification: rows (label, text, start, end, score; id for tokens) in the order of the
 * text. *results is to be freed with gpt2_results_free. */
gpt2_status gpt2_tag(gpt2_session *session, const char *text, size_t text_bytes, int32_t rows,
                     gpt2_results **results);

/* Question answering: at most max_answers rows (text, start, end, score), the best first, each of
 * at most max_tokens tokens; 0 stands for 1 and 15. A context that does not fit is read in windows.
 * *results is to be freed with gpt2_results_free. */
gpt2_status gpt2_answer(gpt2_session *session, const char *question, size_t question_bytes,
                        const char *context, size_t context_bytes, size_t max_answers,
                        size_t max_tokens, gpt2_results **results);

/* A row for each choice (text, id, score, logit), in their order, scores being probabilities among
 * them. A double heads model scores the last token of each choice read after `prompt` (NULL for
 * none); of a language model `logit` is the sum of the log-probabilities of the choice's tokens,
 * which are encoded apart from the prompt: begin choices with the space before their first word.
 * The texts end in NUL. *results is to be freed with gpt2_results_free. */
gpt2_status gpt2_choose(gpt2_session *session, const char *prompt, const char *const *choices,
                        size_t n_choices, gpt2_results **results);

enum {
    GPT2_POOLING_LAST = 0, /* the last token's state, which has seen the whole text */
    GPT2_POOLING_MEAN = 1  /* the mean over all tokens */
};

/* One vector for a text, of the model's width, from a model of any class; with `normalize` not 0 of
 * length 1.
 * Errors: GPT2_ERROR_BUFFER as well, before anything is computed. */
gpt2_status gpt2_embed(gpt2_session *session, const char *text, size_t text_bytes, int32_t pooling,
                       int32_t normalize, float *vector, size_t capacity, size_t *length);

/* ------------------------------------------------------------------ scores of texts
 * Log-probabilities of texts, by the model's own softmax; logarithms are natural. The cache of the
 * session is emptied. Logits are computed in pieces and never kept as a whole. A text longer than
 * the context is scored in windows, each token once. Errors of all of these: GPT2_ERROR_UNSUPPORTED
 * for a model without a language-model head, GPT2_ERROR_STOPPED; otherwise as gpt2_tokenize and
 * gpt2_prefill. */

/* Texts computed together are faster; their sums are in another order, which moves a
 * log-probability by some 1e-5 with f32 matrices, and by some 1e-2 with quantized ones. A context
 * that texts share is computed once in any case. */
enum {
    GPT2_BATCHING_AUTO = 0,     /* together for f32 matrices, else alone */
    GPT2_BATCHING_TOGETHER = 1, /* as many at a time as the session has sequences */
    GPT2_BATCHING_ALONE = 2     /* one at a time: the same bits in any company */
};

typedef struct gpt2_score_options {
    size_t size;
    const char *context; /* comes before every text and is not scored; NULL: nothing */
    size_t top;          /* how many of the likeliest tokens are kept at each place */
    /* of a text longer than the context, how many tokens each window after the first scores; 0: as
     * many as the context has */
    size_t stride;
    int32_t bos;             /* not 0: begin with the model's beginning of text */
    int32_t ranks;           /* not 0: keep ranks */
    int32_t entropies;       /* not 0: keep entropies */
    int32_t batching;        /* GPT2_BATCHING_... */
} gpt2_score_options;

/* Sets the fields that `size` bytes have room for to their defaults.
 * Errors: GPT2_ERROR_ARGUMENT for a size that ends within a field. */
gpt2_status gpt2_score_options_init(gpt2_score_options *options, size_t size);

typedef struct gpt2_scores gpt2_scores;

/* Scores texts that end in NUL. A text is encoded apart from the context: begin it with the space
 * before its first word. Without a context the first token has no score. *scores is to be freed
 * with gpt2_scores_free.
 * Errors: GPT2_ERROR_ARGUMENT as well, for a stride beyond the context. */
gpt2_status gpt2_score(gpt2_session *session, const char *const *texts, size_t n_texts,
                       const gpt2_score_options *options, gpt2_scores **scores);

/* Scores tokens as one text, the first n_context of which are context. Options without context and
 * bos. *scores is to be freed with gpt2_scores_free.
 * Errors: as gpt2_score; GPT2_ERROR_ARGUMENT for a token outside the vocabulary. */
gpt2_status gpt2_score_tokens(gpt2_session *session, const uint32_t *tokens, size_t n_tokens,
                              size_t n_context, const gpt2_score_options *options,
                              gpt2_scores **scores);

/* How many texts there are; 0 for a handle that is not alive. */
size_t gpt2_scores_count(const gpt2_scores *scores);

typedef struct gpt2_text_score {
    size_t size;
    size_t n_tokens;
    size_t n_scored;   /* tokens that have a score */
    size_t n_words;
    size_t n_windows;  /* 1 unless the text is longer than the context; 0 for nothing to score */
    double sum;        /* of the log-probabilities */
    double mean;       /* the sum by n_scored; NaN for none */
    double perplexity; /* exp(-mean); NaN for none */
} gpt2_text_score;

typedef struct gpt2_token_score {
    size_t size;
    uint64_t id;
    size_t start;   /* characters (code points) of the text, from 0; 0 for tokens given as such */
    size_t end;     /* one more than the last */
    size_t rank;    /* among all tokens, from 1, of equals the smaller id first; 0: not kept */
    size_t n_top;   /* how many likely tokens are kept for its place */
    double logprob; /* NaN for a first token with nothing before it */
    double entropy; /* of the distribution at its place; NaN: not kept */
} gpt2_token_score;

/* A word is what stands between white space. Each token of the text is of one word. */
typedef struct gpt2_word_score {
    size_t size;
    size_t start; /* characters of the text, without white space */
    size_t end;
    size_t first_token;
    size_t n_tokens;
    double logprob; /* the sum of its tokens'; NaN when one has no score */
} gpt2_word_score;

/* Gives the scores of a text; set score->size before.
 * Errors: GPT2_ERROR_ARGUMENT for a number out of range, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_scores_get(const gpt2_scores *scores, size_t text, gpt2_text_score *score);

/* Gives the score of a token; set score->size before.
 * Errors: GPT2_ERROR_ARGUMENT for a number out of range, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_scores_token(const gpt2_scores *scores, size_t text, size_t token,
                              gpt2_token_score *score);

/* Gives the likely token at `place`, from 0, where `token` stands: its id, rank and logprob; set
 * score->size before.
 * Errors: GPT2_ERROR_ARGUMENT for a number out of range, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_scores_top(const gpt2_scores *scores, size_t text, size_t token, size_t place,
                            gpt2_token_score *score);

/* Gives the score of a word; set score->size before.
 * Errors: GPT2_ERROR_ARGUMENT for a number out of range, GPT2_ERROR_HANDLE. */
gpt2_status gpt2_scores_word(const gpt2_scores *scores, size_t text, size_t word,
                             gpt2_word_score *score);

/* Frees scores.
 * Errors: GPT2_ERROR_HANDLE. */
gpt2_status gpt2_scores_free(gpt2_scores *scores);

/* Gives the log-probability of token `token` of continuation `index`, by the model's logits before
 * any processor: with the parameter "logprobs=N".
 * Errors: as gpt2_scores_token. */
gpt2_status gpt2_generation_logprob(const gpt2_generation *generation, size_t index, size_t token,
                                    gpt2_token_score *score);

/* Gives the likely token at `place`, from 0 to below N of "logprobs=N", where that token stands.
 * Errors: as gpt2_scores_token. */
gpt2_status gpt2_generation_top(const gpt2_generation *generation, size_t index, size_t token,
                                size_t place, gpt2_token_score *score);

typedef struct gpt2_perplexity_result {
    size_t size;
    double nll_sum;    /* the sum of -ln p */
    double perplexity; /* exp(nll_sum / tokens) */
    size_t tokens;     /* tokens scored */
    size_t windows;
    size_t left_out;   /* tokens at the end that fill no window */
} gpt2_perplexity_result;

/* How well the model predicts a text, in windows of `window` tokens (0: 512, or the context). With
 * a stride of 0 windows do not overlap, each is scored on its tokens after the first, and what
 * fills no window at the end is left out, unless it is the whole text. Otherwise a window begins
 * every `stride` tokens, as in transformers' guide to perplexity. Set result->size before.
 * Errors: GPT2_ERROR_ARGUMENT as well, for a window below 2 or beyond the context, a stride beyond
 * the window, a text of less than two tokens. */
gpt2_status gpt2_perplexity(gpt2_session *session, const char *text, size_t text_bytes,
                            size_t window, size_t stride, gpt2_perplexity_result *result);

/* ------------------------------------------------------------------ converting and quantizing */

typedef struct gpt2_convert_options {
    size_t size;
    /* f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k ... iq4_xs, or a mix such as q4_k_m; must be set
     * */
    const char *file_type;
    /* texts PATTERN=TYPE for tensors whose GGUF name a regular expression is found in; the first
     * that fits decides */
    const char *const *tensor_types;
    size_t n_tensor_types;
    const char *output_type;         /* the type of the head; NULL: by file_type */
    const char *embedding_type;      /* the type of the token embedding; NULL: by file_type */
    const char *importance_matrix;   /* a file from llama-imatrix; NULL: none */
    size_t threads;                  /* 0: all processors */
    int32_t overwrite;               /* not 0: replace an existing output */
    int32_t reserved;                /* 0 */
} gpt2_convert_options;

/* Sets the fields that `size` bytes have room for to their defaults.
 * Errors: GPT2_ERROR_ARGUMENT for a size that ends within a field. */
gpt2_status gpt2_convert_options_init(gpt2_convert_options *options, size_t size);

/* Another result than 0 ends the conversion. Called from threads of the library, never two at once.
 * */
typedef int32_t (*gpt2_progress_callback)(uint64_t written, uint64_t total, void *user_data);

/* Converts `source` (a Hugging Face folder, a weights file in one, or a GGUF file to quantize) into
 * the GGUF file `output`, and reads it back to check it. The output appears whole or not at all.
 * `callback` may be NULL.
 * Errors: GPT2_ERROR_ARGUMENT for options that do not fit, GPT2_ERROR_FORMAT for a broken source,
 * GPT2_ERROR_UNSUPPORTED for one that is not converted, or not by this build (pytorch_model.bin,
 * tf_model.h5 and flax_model.msgpack are features), GPT2_ERROR_STOPPED, GPT2_ERROR_IO,
 * GPT2_ERROR_MEMORY. */
gpt2_status gpt2_convert(const char *source, const char *output,
                         const gpt2_convert_options *options, gpt2_progress_callback callback,
                         void *user_data);

#ifdef __cplusplus
}
#endif

#endif /* GPT2_H */
