/* This machine's limits: memory bandwidth and arithmetic throughput, each measured by itself.
 *
 *   cc -O3 -march=native -pthread -o probe probe.c && ./probe THREADS
 *
 * Prints bytes read from memory per second (in pages of 2 MiB where the system has them),
 * multiplications and additions per second in f32 and in bytes, with the widest instructions that
 * the compiler may use: one line of JSON.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { BYTES = 256 << 20, PASSES = 4, STEPS = 20 * 1000 * 1000 };

typedef struct {
    const uint8_t *memory;
    size_t bytes;
    double operations;
    volatile uint64_t result;
} Work;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void *read_memory(void *argument) {
    Work *work = argument;
    const uint64_t *words = (const uint64_t *)work->memory;
    uint64_t sums[8] = {0};
    for (int pass = 0; pass < PASSES; pass++) {
        for (size_t word = 0; word < work->bytes / 8; word += 8) {
            for (int lane = 0; lane < 8; lane++) sums[lane] += words[word + (size_t)lane];
        }
    }
    for (int lane = 0; lane < 8; lane++) work->result += sums[lane];
    work->operations = (double)work->bytes * PASSES;
    return NULL;
}

/* Ten sums, which hide an instruction's latency, in registers of their own; the compiler may not
 * know that it could do with one. */
#define EACH(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9)
#define BEGIN(n) sum##n = x,
#define GO_ON(n)                \
    __asm__ volatile("" : KEEP(x)); \
    sum##n = NEXT(sum##n);      \
    __asm__ volatile("" : KEEP(sum##n));
#define CHAINED(type, start, lanes)                                 \
    type x = start, EACH(BEGIN) last;                               \
    for (int step = 0; step < STEPS; step++) {                      \
        EACH(GO_ON)                                                 \
    }                                                               \
    last = sum9;                                                    \
    uint32_t word;                                                  \
    memcpy(&word, &last, sizeof word);                              \
    work->result += word;                                           \
    work->operations = 2.0 * (lanes) * 10 * STEPS

#if defined(__AVX2__)
#define KEEP(value) "+v"(value)
#else
#define KEEP(value) "+w"(value)
#endif

static void *multiply_floats(void *argument) {
    Work *work = argument;
#if defined(__AVX512F__)
#define NEXT(sum) _mm512_fmadd_ps(x, x, sum)
    CHAINED(__m512, _mm512_set1_ps(0.5f), 16);
#elif defined(__AVX2__)
#define NEXT(sum) _mm256_fmadd_ps(x, x, sum)
    CHAINED(__m256, _mm256_set1_ps(0.5f), 8);
#elif defined(__aarch64__)
#define NEXT(sum) vfmaq_f32(sum, x, x)
    CHAINED(float32x4_t, vdupq_n_f32(0.5f), 4);
#else
    work->operations = 0;
#endif
    return NULL;
}
#undef NEXT

static void *multiply_bytes(void *argument) {
    Work *work = argument;
#if defined(__AVX512VNNI__)
#define NEXT(sum) _mm512_dpbusd_epi32(sum, x, x)
    CHAINED(__m512i, _mm512_set1_epi8(1), 64);
#elif defined(__AVX2__)
#define NEXT(sum) _mm256_add_epi16(sum, _mm256_maddubs_epi16(x, x))
    CHAINED(__m256i, _mm256_set1_epi8(1), 32);
#elif defined(__ARM_FEATURE_DOTPROD)
#define NEXT(sum) vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(x))
    CHAINED(int32x4_t, vdupq_n_s32(1), 16);
#else
    work->operations = 0;
#endif
    return NULL;
}

/* Operations a second of all threads together: the best of three. */
static double rate(void *(*function)(void *), Work *works, int threads) {
    double best = 0;
    for (int round = 0; round < 3; round++) {
        pthread_t handles[64];
        double start = now(), operations = 0;
        for (int thread = 0; thread < threads; thread++)
            pthread_create(&handles[thread], NULL, function, &works[thread]);
        for (int thread = 0; thread < threads; thread++) pthread_join(handles[thread], NULL);
        double seconds = now() - start;
        for (int thread = 0; thread < threads; thread++) operations += works[thread].operations;
        if (operations / seconds > best) best = operations / seconds;
    }
    return best;
}

int main(int count, char **arguments) {
    int threads = count > 1 ? atoi(arguments[1]) : 1;
    if (threads < 1 || threads > 64) {
        fprintf(stderr, "expected 1 to 64 threads\n");
        return 1;
    }
    uint8_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
#ifdef MADV_HUGEPAGE
    madvise(memory, BYTES, MADV_HUGEPAGE);
#endif
    for (size_t byte = 0; byte < BYTES; byte += 64) memory[byte] = (uint8_t)byte;
    Work works[64] = {0};
    size_t part = BYTES / (size_t)threads / 64 * 64;
    for (int thread = 0; thread < threads; thread++) {
        works[thread].memory = memory + (size_t)thread * part;
        works[thread].bytes = part;
    }
    double bytes = rate(read_memory, works, threads);
    double floats = rate(multiply_floats, works, threads);
    double products = rate(multiply_bytes, works, threads);
    printf("{\"threads\":%d,\"read_gb_s\":%.1f,\"f32_gflop_s\":%.0f,\"int8_gop_s\":%.0f}\n",
           threads, bytes / 1e9, floats / 1e9, products / 1e9);
    return 0;
}
