/* Included before ggml's CPU code: threads that wait for each other give their core away.
 *
 * ggml's threads wait by spinning. When other programs want the cores as well, a thread that
 * spins takes the time of the very thread it waits for, and a computation comes to a standstill.
 *
 * The macro replaces calls of the function, which have no argument, and renames its definition,
 * whose argument is `void`. */
#if defined(__unix__) || defined(__APPLE__)
/* Declared here: including <sched.h> this early would hide from ggml what it defines macros for. */
extern int sched_yield(void);

/* A wait as long as this is no short one. */
#define GPT2_ROUNDS_PER_YIELD 64

static inline void gpt2_relax(void) {
    static _Thread_local unsigned rounds;
    if (++rounds % GPT2_ROUNDS_PER_YIELD == 0) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#define ggml_thread_cpu_relax(argument) GPT2_RELAX_##argument
#define GPT2_RELAX_ gpt2_relax()
#define GPT2_RELAX_void ggml_thread_cpu_relax_as_it_was(void)
#endif
