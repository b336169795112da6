/* Behaviour: a library that is loaded and unloaded while it is probed; see plugin.c. Built twice: two files of one shape,
 * whose code is not the same. */
#include "line.h"

#ifndef PLUG
#define PLUG 0
#endif

/* What the file is, so that a caller sees which one it called. */
KEPT int plug_kind(void) { return PLUG; }

KEPT int plug_work(int a) {
    WORK_BODY(a + PLUG)
}

/* Calls another function of the library, so that two sites are passed. */
KEPT int plug_twice(int a) { return plug_work(plug_work(a)) + PLUG; }
