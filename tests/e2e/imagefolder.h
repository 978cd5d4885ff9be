/* imagefolder.h - writes a small diffusion folder with random weights: an MMDiT in pixel space, a CLIP
 * encoder whose tokens are letters, a flow scheduler.
 * Why:    tests of imagine must run where no model is at hand, and some break one.
 * Owner:  the folder lives in e2e_dir; the returned path as long as the process.
 * Ranks:  the caller is no MPI process. */
#ifndef MUSTER_TESTS_IMAGEFOLDER_H
#define MUSTER_TESTS_IMAGEFOLDER_H

/* Side of its pictures, tokens of a prompt (letters; begin and end included). */
enum { IMAGEFOLDER_SIDE = 16, IMAGEFOLDER_TOKENS = 40 };

/* Made at the first call with this name. */
const char *imagefolder_make(const char *name);

#endif
