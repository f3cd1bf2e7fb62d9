/* What the files of the engine share. See fastpath.h for what it is and what it promises. */
#ifndef GREENROOM_FASTPATH_INTERNAL_H
#define GREENROOM_FASTPATH_INTERNAL_H

#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include "twcc.h"
#include "fastpath.h"
#pragma GCC visibility pop

enum {
    LARGEST_PACKET = 1500,
    LARGEST_DATAGRAM = 2048,
    SMALLEST_PACKET = 12 + 8,
    HEADER = 12,
    NUMBERED = HEADER + 8, /* with a transport-wide number in an extension (RFC 8285, section 4.2) */
    PADDING = 255,         /* bytes: the count is one of them */
    OVERHEAD = 44,         /* on the line besides: SRTP's tag, UDP, IPv4 */
    TRAILER = 64,          /* more than any SRTP tag and index, and that extension */
    BATCH = 32,
    MOST_BATCHES = 16, /* of one socket, before it is another's turn */
    MOST_COMPOUNDS = 1 << 10, /* that wait to be sealed */
    MOST_SOCKETS = 64,
    MOST_CONNECTIONS = 1 << 13,
    MOST_SOURCES = 1 << 14,
    MOST_LANES = 1 << 16,
    MOST_ADDRESSES = 1 << 16, /* slots of the hash table, a power of two; half of them are used at most */
    ADDRESSES_EACH = 40,      /* that one connection may be bound to: more than ICE remembers */
    OPENED_EACH = 96,         /* SSRCs that one connection may bring in its life: each costs an SRTP stream, for good */
    LIVE_EACH = 32,           /* a new one that nobody named is opened only if there are fewer that somebody has, or nobody */
    STREAMS_EACH = 2 * OPENED_EACH, /* SSRCs that are known: also those that were announced and have not come */
    TALKERS_EACH = 32,        /* SSRCs that may send RTCP */
    STRANGER_PACKETS = 100,   /* of an unknown SSRC that are told */
    RING = 1 << 9,            /* packets kept: two to three seconds of 720p; below SRTP's replay window */
    QUEUE_BYTES = 1 << 24,    /* of records for Python: some three seconds of a full room */
    QUEUE_RESERVE = 1 << 20,  /* of which everything else leaves so much to what lanes do */
    QUEUE_STRANGERS = QUEUE_BYTES / 8, /* and of which what anybody may send takes no more, */
    QUEUE_TALK = QUEUE_BYTES / 4,      /* nor RTCP and packets of unknown SSRCs, of all connections */
    QUEUE_TALK_EACH = QUEUE_BYTES / 32, /* and of one: a tenth of a second of Python */
    QUEUE_MEDIA_EACH = QUEUE_BYTES / 8, /* nor the media of one connection: three seconds of 5 Mbit/s */
    MOST_PENDING = 4096,      /* sealed packets that wait for the end of the batch */
    ARENA_BYTES = MOST_PENDING * (LARGEST_PACKET + TRAILER) / 2,
    MOST_SEGMENTS = 48,       /* of one train; the kernel takes 64 and 65,507 bytes */
    MOST_BYTES = 65000,
    CROWD = 16,               /* datagrams */
    GATHER_NS = 150000,       /* so long the rest of a picture is waited for: its packets leave in trains */
    TELL_US = 4000            /* of what has been forwarded Python is told so seldom: waking it costs more than it does */
};

/* --- packets ---------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *payload;
    int size;
    uint16_t sequence;
    uint32_t timestamp, ssrc;
    uint8_t payload_type;
    bool marker;
} packet;

/* A packet in a source's ring. */
typedef struct {
    int64_t sequence; /* -1: none */
    uint32_t timestamp;
    uint16_t size, room;
    bool marker, key, passed;
    uint8_t *payload;
} kept;

bool rtp_parse(const uint8_t *data, int size, packet *out);
/* The header extension element `wanted` (RFC 8285, both forms) of a packet that was parsed; NULL: there is none. */
const uint8_t *rtp_extension(const uint8_t *data, int wanted, int *length);
bool rtp_is_key(int codec, const uint8_t *payload, int size);

/* The numbers of a VP8 payload descriptor that have to go on when a lane changes its source (RFC 7741, 4.2). */
typedef struct {
    int picture_at, level_at; /* offsets; 0: not there */
    uint16_t picture;
    uint8_t level;
} vp8_numbers;
/* Copy with the picture id in 15 bits: one of seven could not run on after another source's. The size. */
int vp8_widen(const uint8_t *payload, int size, uint8_t *into);
void vp8_parse(const uint8_t *widened, int size, vp8_numbers *out);

/* --- tables ----------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t ssrc, source; /* source: index, 0: nobody named it */
    uint16_t told;
    bool repairs;
    bool opened;   /* one of its packets authenticated: it has an SRTP stream. Unless named or opened, the place is free */
    bool stranger; /* nobody named it when it was opened, nor since */
} stream;

typedef struct {
    uint32_t id; /* 0: free */
    void *protect, *unprotect;
    twcc *history; /* NULL: nothing is numbered */
    fp_address to;
    bool nominated, no_trains;
    fp_address bound[ADDRESSES_EACH];
    int bound_count;
    stream streams[STREAMS_EACH];
    int stream_count, opened_count;
    uint32_t talkers[TALKERS_EACH]; /* SSRCs that sent SRTCP */
    int talker_count;
    uint32_t lanes, sources;         /* the first of its lanes and sources, 0: none; each kind is linked by `sibling` */
    int pending_first, pending_last; /* of this batch; -1: none */
    uint64_t unknown, unopened, refused;
} connection;

typedef struct {
    uint32_t id;
    uint32_t connection; /* index */
    uint32_t sibling;
    int codec, clock_rate;
    int wide_id, level_id; /* of header extensions that are told; 0: none */
    int64_t until_us;
    int64_t highest;
    kept *ring;
    uint32_t *lanes; /* indices of lanes that carry it, or will from its next key frame on */
    int lane_count, lane_room;
    bool hushed;
    uint64_t packets, octets, repeated, gated;
} source;

typedef struct {
    uint32_t id;
    uint32_t connection; /* index */
    uint32_t ssrc, retransmission_ssrc;
    uint32_t sibling;
    uint32_t source, next; /* indices: carried now; from its key frame on. 0: none */
    uint32_t last_source; /* id of the source that was carried last */
    uint8_t payload_type, retransmission_type, extension; /* carried now */
    fp_wish wish;
    uint16_t retransmission_sequence;
    bool began, pictured;
    int64_t first, offset, highest; /* highest: outgoing */
    uint32_t timestamp_offset, timestamp, early;
    int64_t sent_us;
    uint16_t picture_offset, picture;
    uint8_t level_offset, level;
    uint64_t packets, octets, refused, retransmitted;
} lane;

typedef struct {
    uint32_t source; /* index; 0: it has gone out */
    const kept *what;
    bool lost; /* for proofs of what is repaired */
} passing;

typedef struct {
    uint8_t *data;
    int size, next;
} pending;

typedef struct {
    uint32_t connection; /* id */
    int size;
    uint8_t data[LARGEST_PACKET];
} compound;

struct fp_engine {
    fp_srtp srtp;
    int sockets[MOST_SOCKETS], families[MOST_SOCKETS], socket_count;
    int wake, stop, poll;
    pthread_t thread;
    pthread_mutex_t mutex;
    atomic_int waiters;
    atomic_bool stopping;
    int64_t now_us; /* of this batch */
    bool no_trains; /* this kernel or this network card cannot, wherever to */
    int lose_one_in;
    uint64_t fresh, lost;

    connection *connections;
    source *sources;
    lane *lanes;
    uint32_t *free_connections, *free_sources, *free_lanes;
    uint32_t free_connection_count, free_source_count, free_lane_count;
    uint32_t generation;
    struct {
        fp_address address;
        uint32_t connection; /* index; 0: empty */
    } *addresses;
    int address_count;

    uint8_t *queue;
    atomic_uint_fast64_t queue_head, queue_tail; /* head: written to; tail: read to */
    /* Bytes between them: of what anybody may send; of RTCP and unknown SSRCs, in all and by connection; of media. */
    atomic_uint_fast64_t strangers, talk, talk_of[MOST_CONNECTIONS], media_of[MOST_CONNECTIONS];
    atomic_uint_fast64_t dropped;
    bool told, urgent; /* since the last wake: something, and something that should not wait */
    int64_t woken_us;

    pthread_mutex_t post; /* of what follows alone: who posts does not wait for a batch */
    compound *compounds;
    int compound_count;
    compound *sealing; /* under the mutex: what is being sent of them */

    passing ready[BATCH]; /* of this batch: opened, kept, told, and not yet sealed for anybody */
    int ready_count;
    uint8_t *arena;
    size_t arena_used;
    pending pendings[MOST_PENDING];
    int pending_count;
    uint32_t touched[MOST_CONNECTIONS];
    int touched_count;
};

void engine_lock(fp_engine *engine);
void engine_unlock(fp_engine *engine);
void engine_tell(fp_engine *engine, const fp_record *record, const uint8_t *data);
void engine_wake(fp_engine *engine);
int64_t engine_clock(void);

bool tables_make(fp_engine *engine);
void tables_free(fp_engine *engine);
uint32_t tables_find(fp_engine *engine, const fp_address *address); /* index, 0: nobody */
connection *connection_of(fp_engine *engine, uint32_t id);
/* What is known of an SSRC; or a place for it, which stays free until it is named or opened. NULL: there is none. */
stream *stream_of(connection *who, uint32_t ssrc);
source *source_of(fp_engine *engine, uint32_t id);
lane *lane_of(fp_engine *engine, uint32_t id);
void lane_unlist(source *from, uint32_t index);
void source_hush(fp_engine *engine, source *which);

/* Takes a source's packet in, sends it on and tells of it. `data`: the opened packet. */
void forward_packet(fp_engine *engine, source *from, const uint8_t *data, int size, const packet *fresh, uint32_t flags);
void forward_replay(fp_engine *engine, source *from, int64_t first);
void forward_flush(fp_engine *engine);
bool forward_padding(fp_engine *engine, lane *which);
bool forward_again(fp_engine *engine, lane *which, uint16_t number);
bool send_to(fp_engine *engine, const fp_address *to, const uint8_t *data, int size);

#endif
