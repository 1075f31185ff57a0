/* A plugin for qemu's user mode that counts the instructions a program executes and prints the
 * count at its end.
 *
 *   cc -shared -fPIC -O2 -o instructions.so instructions.c
 *   qemu-aarch64 -plugin ./instructions.so -d plugin PROGRAM...
 *
 * qemu finds these functions by name; only what is used is declared here, with the types of its
 * version 1 interface.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
                                           void (*callback)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_atexit_cb(uint64_t id, void (*callback)(uint64_t, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation,
                                              void *counter, uint64_t add);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t executed;

/* Called once for each stretch of code that is translated: from then on, each run of it adds its
 * length. */
static void translated(uint64_t id, struct qemu_plugin_tb *block) {
    const int add_u64 = 0;
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, add_u64, &executed,
                                             qemu_plugin_tb_n_insns(block));
}

static void at_exit(uint64_t id, void *data) {
    (void)id, (void)data;
    fprintf(stderr, "instructions: %llu\n", (unsigned long long)executed);
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info,
                                                               int count, char **arguments) {
    (void)info, (void)count, (void)arguments;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
