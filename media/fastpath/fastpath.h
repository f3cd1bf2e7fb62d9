/* The node's packets: received, opened, forwarded, sealed and sent by one thread of ours, off the GIL.
 *
 * Python keeps every decision: who is connected, what is a track, who gets which layer, until when something
 * may be forwarded. What is decided is written into tables here; from then on a packet needs nobody's word.
 * No JSON, no SDP, no rooms and no minutes on this side.
 *
 * Threads. The engine's thread works in batches, under one mutex. Every function below takes that mutex, so
 * what it changed holds from its return on: after fp_close no packet of that connection is forwarded and
 * its SRTP contexts are not touched again. Nobody waits longer than a batch, some two milliseconds.
 *
 * Ids carry a generation: one that was closed is refused (FP_GONE), never mistaken for its successor.
 * Times are microseconds of CLOCK_MONOTONIC. Sequence numbers of sources are extended (RFC 3550, A.1).
 *
 * This file is read by the compiler and by cffi: declarations only, in the order in which they are used.
 */

enum { FP_OK = 0, FP_GONE = -1, FP_FULL = -2, FP_REFUSED = -3 };

/* A remote address and which of our sockets it talks to. IPv4 as ::ffff:a.b.c.d. */
typedef struct {
    uint8_t ip[16];
    uint16_t port;   /* host order */
    uint16_t socket; /* index into the sockets that fp_new was given */
} fp_address;

/* libsrtp's four in-place calls, as addresses: the contexts are made by whoever does DTLS. */
typedef struct {
    int (*protect)(void *, void *, int *);
    int (*unprotect)(void *, void *, int *);
    int (*protect_rtcp)(void *, void *, int *);
    int (*unprotect_rtcp)(void *, void *, int *);
} fp_srtp;

enum { FP_OPUS = 0, FP_VP8 = 1, FP_H264 = 2, FP_VP9 = 3, FP_AV1 = 4 };
enum { FP_COPY = 1 /* hand every packet that passed up to Python, as FP_PACKET */ };

/* What comes up. `size` bytes follow each record, padded to 8. */
enum {
    FP_DATAGRAM = 1, /* STUN from anybody, DTLS from a bound address: address, id (connection or 0) */
    FP_RTCP = 2,     /* a compound, opened: id (connection) */
    FP_STRANGER = 3, /* RTP of an SSRC that nobody named: id (connection), the packet's first 64 bytes at most */
    FP_FRAME = 4,    /* id (source), sequence, timestamp, flags, value: payload bytes of its first packet */
    FP_PACKET = 5,   /* id (source), sequence, timestamp, flags; the payload follows */
    FP_ENDED = 6     /* id (source): the time that it may be forwarded is over */
};
enum { FP_KEY = 1, FP_MARKER = 2, FP_PASSED = 4 };
typedef struct {
    uint32_t kind, size, id, flags;
    int64_t at_us, sequence;
    uint32_t timestamp, value;
    fp_address address;
    uint32_t reserved;
} fp_record;

/* Counters of a connection, a source or a lane: which apply is said beside each. */
typedef struct {
    uint64_t packets, octets;          /* source: taken in; lane: sent */
    uint64_t refused;                  /* connection: did not authenticate; lane: the socket was full */
    uint64_t duplicates, late, lost;   /* source; lost: expected less received */
    uint64_t gated;                    /* source: dropped because nothing may pass */
    uint64_t keyframes, retransmitted; /* source; lane */
    int64_t highest;                   /* source: newest sequence; lane: newest one sent */
    uint32_t timestamp;                /* source: newest; lane: newest one sent */
    uint32_t jitter;                   /* source: in timestamp units (RFC 3550, A.8) */
    int64_t sequence_offset;           /* lane: outgoing less incoming */
    uint32_t timestamp_offset;         /* lane */
    uint32_t source;                   /* lane: what it carries now, 0: nothing yet */
    int64_t heard_us;                  /* connection: last datagram that authenticated */
} fp_counters;

typedef struct fp_engine fp_engine;

/* --- life ------------------------------------------------------------------------------------------- */

/* `sockets`: bound, non-blocking UDP sockets, at most 16; they stay the caller's. `wake`: an eventfd that is
 * written to when records wait. NULL: no memory or no thread. */
fp_engine *fp_new(const fp_srtp *srtp, const int *sockets, int count, int wake);
void fp_free(fp_engine *engine); /* stops the thread first */
/* Take records that wait, whole ones, at most `room` bytes; how many bytes. */
int fp_take(fp_engine *engine, uint8_t *into, int room);
/* Handle what the kernel holds now, at most `most` datagrams; 1: nothing is left. */
int fp_drain(fp_engine *engine, int most);
uint64_t fp_dropped(fp_engine *engine); /* records that found no room */

/* --- connections ------------------------------------------------------------------------------------ */

uint32_t fp_open(fp_engine *engine); /* 0: full */
int fp_bind(fp_engine *engine, uint32_t connection, const fp_address *address);     /* it passed a check */
int fp_nominate(fp_engine *engine, uint32_t connection, const fp_address *address); /* where we send to */
int fp_secure(fp_engine *engine, uint32_t connection, void *protect, void *unprotect);
int fp_send(fp_engine *engine, const fp_address *address, const uint8_t *data, int size);
int fp_send_rtcp(fp_engine *engine, uint32_t connection, const uint8_t *compound, int size);
/* Transport-wide sequence numbers that arrived since the last call, for feedback; how many (at most `room`). */
int fp_arrivals(fp_engine *engine, uint32_t connection, uint16_t *numbers, int64_t *at_us, int room);
int fp_transport_cc(fp_engine *engine, uint32_t connection, int extension_id);
void fp_close(fp_engine *engine, uint32_t connection); /* with its sources and lanes */

/* --- sources: one SSRC of a publisher, a track or one layer of it ------------------------------------ */

uint32_t fp_source(fp_engine *engine, uint32_t connection, uint32_t ssrc, int codec, int clock_rate);
int fp_retransmission(fp_engine *engine, uint32_t source, uint32_t ssrc); /* RFC 4588 */
int fp_ignore(fp_engine *engine, uint32_t connection, uint32_t ssrc);
int fp_copy(fp_engine *engine, uint32_t source, int flags);
/* Forward until then, whatever anybody is doing: INT64_MAX, a budget's end, 0 (nothing passes). `from`: begin
 * with this sequence, which is still in the ring (a key frame that was judged first); -1: with what comes. */
int fp_gate(fp_engine *engine, uint32_t source, int64_t until_us, int64_t from);
/* Sequences that are missing and were not asked for since `before_us`, ascending; how many. */
int fp_missing(fp_engine *engine, uint32_t source, int64_t before_us, int64_t *sequences, int room);
int fp_source_counters(fp_engine *engine, uint32_t source, fp_counters *out);
void fp_drop(fp_engine *engine, uint32_t source);

/* --- lanes: one SSRC of a subscriber, carrying at most one source ------------------------------------ */

uint32_t fp_lane(fp_engine *engine, uint32_t connection, uint32_t ssrc, uint32_t retransmission_ssrc);
/* Carry `source` from its next key frame on (sound: packet); until then, what is carried now. 0: nothing. */
int fp_carry(fp_engine *engine, uint32_t lane, uint32_t source, int payload_type, int retransmission_type);
int fp_resend(fp_engine *engine, uint32_t lane, const uint16_t *numbers, int count); /* how many were sent */
int fp_lane_counters(fp_engine *engine, uint32_t lane, fp_counters *out);
void fp_end(fp_engine *engine, uint32_t lane);
