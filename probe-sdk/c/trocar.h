/* Write Trocar probes in C or C++: every host call of the probe ABI, version 1, and the manifest.
 *
 * Relies on clang for wasm32 (14 or later) and on nothing else: no libc. Build a probe like this:
 *
 *   clang --target=wasm32 -Os -nostdlib -Wl,--no-entry -Wl,-s -Wl,-z,stack-size=8192 -Wl,--stack-first \
 *         -o probe.wasm probe.c
 *
 * With --stack-first a stack that runs over is a trap and does not destroy data. What each call means, and when it
 * traps, stands in PROBE-ABI.md; a test compares this file with the host's table. Addresses of the target are numbers
 * (uint64_t), never pointers; pointers are addresses in the probe's own memory.
 *
 *   TROCAR_MANIFEST({"abi": 1, "name": "calls", "maps": [{"name": "calls", "kind": "counter", "entries": 1}]})
 *   TROCAR_HANDLER(on_hit) void on_hit(void) { trocar_counter_add(0, 0, 1); }
 */
#ifndef TROCAR_H
#define TROCAR_H

#include <stdint.h>

#define TROCAR_ABI 1

#ifdef __cplusplus
extern "C" {
#endif

#define TROCAR_IMPORT(name) __attribute__((import_module("trocar"), import_name(#name)))

/* Exports a function as a handler: void NAME(void), or int32_t NAME(void) whose 0 means "my condition does not
 * hold". In C++ put extern "C" in front. */
#define TROCAR_HANDLER(name) __attribute__((export_name(#name)))

/* Puts the manifest into the module: JSON as it is, with no quoting, once in a probe. Without "handlers" in it the
 * only handler is on_hit. */
#define TROCAR_MANIFEST(...) TROCAR_MANIFEST_QUOTED(#__VA_ARGS__)
/* The argument is a string literal here; quoted once more it is a string of the assembler. */
#define TROCAR_MANIFEST_QUOTED(text)                                                                                   \
    __asm__(".section .custom_section.trocar.manifest,\"\",@\n\t.ascii " #text "\n\t.text\n");

/* Errors of the calls that return int32_t. */
#define TROCAR_EPERM (-1)   /* reading is not allowed in this target */
#define TROCAR_EFAULT (-14) /* an address of the target is not readable */
#define TROCAR_ENOSPC (-28) /* the hash map is full */

/* Levels of log lines. */
#define TROCAR_ERROR 0
#define TROCAR_WARN 1
#define TROCAR_INFO 2
#define TROCAR_DEBUG 3
#define TROCAR_TRACE 4

/* Numbers of registers, as trocar_reg takes them (DWARF). */
enum trocar_register {
    TROCAR_RAX, TROCAR_RDX, TROCAR_RCX, TROCAR_RBX, TROCAR_RSI, TROCAR_RDI, TROCAR_RBP, TROCAR_RSP, TROCAR_R8,
    TROCAR_R9, TROCAR_R10, TROCAR_R11, TROCAR_R12, TROCAR_R13, TROCAR_R14, TROCAR_R15, TROCAR_RIP
};

/* The hit: integer argument n from zero, a register, the result register (where a function returns). */
TROCAR_IMPORT(arg) uint64_t trocar_arg(uint32_t n);
TROCAR_IMPORT(reg) uint64_t trocar_reg(uint32_t n);
TROCAR_IMPORT(ret) uint64_t trocar_ret(void);

/* Where and when: index of the site, the kernel's id of the thread, number of the processor, CLOCK_MONOTONIC. */
TROCAR_IMPORT(site) uint32_t trocar_site(void);
TROCAR_IMPORT(tid) uint32_t trocar_tid(void);
TROCAR_IMPORT(cpu) uint32_t trocar_cpu(void);
TROCAR_IMPORT(time_ns) uint64_t trocar_time_ns(void);

/* Calls: index of the function whose entry or exit the site is; at an exit, nanoseconds since this call of it began, or
 * -1 if its beginning was not seen. */
TROCAR_IMPORT(function) uint32_t trocar_function(void);
TROCAR_IMPORT(span_ns) int64_t trocar_span_ns(void);

/* Memory of the target. 0 or an error; the length without NUL or an error. Each is a system call in the target. */
TROCAR_IMPORT(read) int32_t trocar_read(uint64_t address, void *to, uint32_t len);
TROCAR_IMPORT(read_str) int32_t trocar_read_str(uint64_t address, char *to, uint32_t len);

/* Maps, by their place in the manifest. A call with no such map or entry, or with a key too long, traps. */
TROCAR_IMPORT(counter_add) void trocar_counter_add(uint32_t map, uint32_t entry, uint64_t n);
TROCAR_IMPORT(hist_add) void trocar_hist_add(uint32_t map, uint32_t entry, uint64_t value);
TROCAR_IMPORT(hash_add) int32_t trocar_hash_add(uint32_t map, const void *key, uint32_t len, uint64_t n);
TROCAR_IMPORT(hash_set) int32_t trocar_hash_set(uint32_t map, const void *key, uint32_t len, uint64_t n);
TROCAR_IMPORT(hash_get) uint64_t trocar_hash_get(uint32_t map, const void *key, uint32_t len);

/* Events, by their place in the manifest, and log lines. At most 4096 bytes. */
TROCAR_IMPORT(emit) void trocar_emit(uint32_t event, const void *payload, uint32_t len);
TROCAR_IMPORT(log) void trocar_log(uint32_t level, const char *text, uint32_t len);

/* Parameters, by their place in the manifest. The length of a string's whole value, also if less was copied. */
TROCAR_IMPORT(param) uint64_t trocar_param(uint32_t n);
TROCAR_IMPORT(param_str) int32_t trocar_param_str(uint32_t n, char *to, uint32_t len);

/* A struct for events and keys: its members lie one after another, as the manifest's fields do. */
#define TROCAR_FIELDS __attribute__((packed))

/* Writes the event at place `number`, a struct with TROCAR_FIELDS. */
#define TROCAR_EMIT(number, event) trocar_emit((number), &(event), sizeof(event))

/* A text as a field or key: reads the string at an address of the target into a member `char to[N]`, and clears what
 * is behind it. 0 or an error. */
#define TROCAR_READ_TEXT(address, to) trocar_read_text((address), (to), sizeof(to))

static inline int32_t trocar_read_text(uint64_t address, char *to, uint32_t len)
{
    int32_t read = trocar_read_str(address, to, len);
    for (uint32_t i = read < 0 ? 0 : (uint32_t)read; i < len; i++)
        ((volatile char *)to)[i] = 0; /* volatile: else clang calls memset, which is in libc */
    return read < 0 ? read : 0;
}

/* Numbers at an address of the target: the error, or 0 and the number. */
static inline int32_t trocar_read_u64(uint64_t address, uint64_t *to)
{
    return trocar_read(address, to, sizeof *to);
}

static inline int32_t trocar_read_u32(uint64_t address, uint32_t *to)
{
    return trocar_read(address, to, sizeof *to);
}

/* Writes a string literal to the log. */
#define TROCAR_LOG(level, literal) trocar_log((level), "" literal, sizeof("" literal) - 1)

#ifdef __cplusplus
}
#endif

#endif
