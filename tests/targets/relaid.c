/* Behaviour: a program that lays its own text anew while it runs, as large services do to have it in huge pages. Its text
 * segment has two megabytes for itself (see `build`), `work` a page.
 *
 *   lay shared           the text is mapped from the file again, shared; `done 1`
 *   lay part             the page of `work` becomes a copy in anonymous memory; `done 1`
 *   lay copy             the whole text does; `done 1`
 *   lay huge             the whole text does, in a huge page; `done 1`, or `error …` where the kernel gives none
 *   lay file             the whole text does, in a file that is not the program's; `done 1`
 *   run CALLS            calls `work`; `done TOTAL`
 *   text                 a sum of the bytes of the text; `sum N`
 *   kind                 how it is mapped where `work` is: its line of /proc/self/maps, and kB in huge pages; `kind …`
 */
#define _GNU_SOURCE
#include "line.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { PAGE = 4096, HUGE = 2 << 20 };

KEPT __attribute__((aligned(PAGE))) int work(int a) { WORK_BODY(a) }
KEPT __attribute__((aligned(PAGE))) int behind(int a) { return a + 1; }

static uintptr_t start, length, offset;

static int look(struct dl_phdr_info *info, size_t size, void *nothing) {
    (void)size, (void)nothing;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        start = (info->dlpi_addr + part->p_vaddr) & -(uintptr_t)PAGE;
        length = (info->dlpi_addr + part->p_vaddr + part->p_memsz + PAGE - 1 - start) & -(uintptr_t)PAGE;
        offset = part->p_offset & -(uintptr_t)PAGE;
    }
    return 1; /* only the program itself, which comes first */
}

static int fail(const char *what) {
    answer("error %s: %s", what, strerror(errno));
    return 0;
}

/* The copy takes the place of the text in one step, made by libc: no moment finds the text away. */
static int copy(uintptr_t from, uintptr_t len, uintptr_t room, int huge) {
    char *space = mmap(NULL, 2 * room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED) return fail("mmap");
    char *made = (char *)(((uintptr_t)space + room - 1) & -room);
    if (huge && madvise(made, room, MADV_HUGEPAGE) != 0) return fail("MADV_HUGEPAGE");
    memcpy(made, (void *)from, len);
    if (huge && madvise(made, room, MADV_COLLAPSE) != 0) return fail("MADV_COLLAPSE");
    if (mprotect(made, room, PROT_READ | PROT_EXEC) != 0) return fail("mprotect");
    if (mremap(made, room, room, MREMAP_MAYMOVE | MREMAP_FIXED, from) == MAP_FAILED) return fail("mremap");
    return 1;
}

static int lay(const char *way) {
    if (strcmp(way, "part") == 0) return copy((uintptr_t)work, PAGE, PAGE, 0);
    if (strcmp(way, "copy") == 0) return copy(start, length, length, 0);
    if (strcmp(way, "huge") == 0) return start % HUGE == 0 && length <= HUGE ? copy(start, length, HUGE, 1) : fail("its place");
    int shared = strcmp(way, "shared") == 0;
    if (!shared && strcmp(way, "file") != 0) return fail("no such way");
    int file = shared ? open("/proc/self/exe", O_RDONLY | O_CLOEXEC) : memfd_create("text", MFD_CLOEXEC);
    if (!shared && pwrite(file, (void *)start, length, (off_t)offset) != (ssize_t)length) return fail("pwrite");
    int kind = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED;
    void *got = mmap((void *)start, length, PROT_READ | PROT_EXEC, kind, file, (off_t)offset);
    close(file);
    return got != MAP_FAILED || fail("mmap");
}

static void tell_kind(void) {
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512], kind[512] = "";
    unsigned long low, high, kb, huge = 0;
    int here = 0;
    while (file && fgets(line, sizeof line, file)) {
        char permissions[5], name[256] = "-";
        if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %255s", &low, &high, permissions, name) >= 3) {
            here = (uintptr_t)work >= low && (uintptr_t)work < high;
            if (here) snprintf(kind, sizeof kind, "%s %s", permissions, strrchr(name, '/') ? strrchr(name, '/') + 1 : name);
        }
        if (here && sscanf(line, "AnonHugePages: %lu", &kb) == 1) huge = kb;
    }
    if (file) fclose(file);
    answer("kind %s huge=%lu", kind, huge);
}

int main(void) {
    char way[16];
    long calls;
    setvbuf(stdout, NULL, _IOLBF, 4096);
    dl_iterate_phdr(look, NULL);
    ready();
    for (char *line; (line = command());) {
        if (sscanf(line, "lay %15s", way) == 1) {
            if (lay(way)) answer("done 1");
        } else if (sscanf(line, "run %ld", &calls) == 1) {
            int right = 1;
            for (long i = 0; i < calls; i++) right &= work((int)i) == work_twin((int)i);
            answer("%s %ld", right ? "done" : "wrong", calls);
        } else if (strcmp(line, "text") == 0) {
            uint64_t sum = (uint64_t)behind(0);
            for (uintptr_t at = start; at < start + length; at++) sum = sum * 31 + *(const unsigned char *)at;
            answer("sum %llu", (unsigned long long)sum);
        } else if (strcmp(line, "kind") == 0) {
            tell_kind();
        } else {
            answer("error unknown command: %s", line);
        }
    }
    return 0;
}
