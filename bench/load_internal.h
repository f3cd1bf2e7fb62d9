/* What the files of the load share. See load.h for what it is. */
#ifndef GREENROOM_LOAD_INTERNAL_H
#define GREENROOM_LOAD_INTERNAL_H

#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include "load.h"
#pragma GCC visibility pop

enum { HEADER = 12, LARGEST = 2048, BATCH = 64, MOST_STREAMS = 4096, PACKETS_A_PICTURE = 5, PICTURE_BYTES = 1200, SOUND_BYTES = 120 };

typedef int (*seal)(void *, void *, int *);
extern seal protect, unprotect, protect_rtcp, unprotect_rtcp;
extern load_counts counts;
extern int64_t to_monotonic_ns;

int64_t now_ns(void);
int to_address(struct sockaddr_in *out, const char *host, int port);
void put_word(uint8_t *at, uint32_t value);
uint32_t word_at(const uint8_t *at);

/* load_answers.c: of a packet that came to a sink, still sealed; whether it is one that was not there before. */
int take_note(int sink, const uint8_t *data, int size, int64_t came_ns);
/* RTCP came, sealed; `context` opens it. */
void take_compound(int sink, void *context, uint8_t *data, int size, int64_t came_ns);
/* Say what is due. */
void answer(int sink, int64_t now);
void forget_answers(void);

#endif
