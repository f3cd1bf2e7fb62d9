/* The node's packets: received, opened, forwarded, sealed and sent by one thread of ours, off the GIL.
 *
 * Python keeps every decision: who is connected, what is a track, who gets which layer, until when something
 * may be forwarded. What is decided is written into tables here; from then on a packet needs nobody's word.
 * Python is told of each packet afterwards and keeps the books. No JSON, no SDP, no rooms and no minutes here.
 *
 * Threads. The engine's thread works in batches, under one mutex. Every function that changes or reads a connection,
 * a source or a lane takes that mutex, so what it changed holds from its return on: after fp_close no packet of that
 * connection is forwarded and its SRTP contexts are not touched again. Nobody waits for it longer than a batch, some
 * two milliseconds, but for a replay (fp_gate), a long fp_resend, or a thousand compounds that were posted; fp_drain lets
 * go of it after each batch. fp_take, fp_dropped and fp_send_rtcp do not take it: fp_take is
 * for one caller at a time, and what fp_send_rtcp posts is sent, or not any more, under it.
 *
 * Ids carry a generation of 16 bits, counted over everything that is made: one that was closed is refused (FP_GONE), unless
 * its successor in the same place was made just 65,536 makings later, or a multiple of that. Nobody may keep one so long.
 * Times are microseconds of CLOCK_MONOTONIC. Sequence numbers of sources are extended (RFC 3550, A.1).
 *
 * This file is read by the compiler and by cffi, behind twcc.h: declarations only, in the order in which they are used.
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

/* What comes up, in the order in which it happened. `size` bytes follow each record, padded to 8. */
enum {
    FP_DATAGRAM = 1, /* STUN or DTLS, from anybody: address; nobody has looked at it */
    FP_RTCP = 2,     /* a compound, opened: id (connection) */
    FP_STRANGER = 3, /* RTP of an SSRC that nobody named, opened: id (connection) */
    FP_PACKET = 4,   /* RTP, opened: id (source), sequence, flags, packet; it has been forwarded if it passed and is new */
    FP_ENTERED = 5   /* id (lane): it carries another source from `sequence` on, or none (0), as nothing may pass and
                        until that one's next key frame; an fp_entry follows */
};
enum {
    FP_PASSED = 1, /* the source's gate was open when it came */
    FP_REPEATED = 2, /* it came before, or too late: it was not forwarded */
    FP_REPAIR = 4,   /* it came under a retransmission SSRC (RFC 4588) */
    FP_INJECTED = 8  /* it came up as a stranger before */
};
/* What was found in a packet, so that nobody has to look again. */
typedef struct {
    uint32_t timestamp, ssrc;
    int32_t wide;             /* the transport-wide number (fp_read); -1: none */
    uint16_t payload_at, payload_size; /* within the bytes that follow; of what is sent again without its number's two bytes */
    int16_t level;            /* the audio level's octet (fp_read); -1: none */
    uint8_t marker;           /* 128: set, 0: not */
    uint8_t key;              /* 1: a decoder can begin with it */
} fp_packet;
typedef struct {
    uint32_t kind, size, id, flags;
    int64_t at_us, sequence; /* sequence: -1 of a repair that holds nothing */
    union {
        fp_address address;
        fp_packet packet;
    };
    uint32_t account; /* the engine's own: whose share of the queue it takes */
} fp_record;

/* How a lane knows what it carries: what is added to the source's numbers. */
typedef struct {
    int64_t sequence_offset;
    uint32_t source, ticket, timestamp_offset;
    uint16_t picture_offset;
    uint8_t level_offset, reserved;
} fp_entry;

/* Counters of a connection, a source or a lane: which apply is said beside each. */
typedef struct {
    uint64_t packets, octets;   /* source: taken in, also while nothing may pass; lane: sent */
    uint64_t refused;           /* connection: the socket was full; lane: could not be sealed */
    uint64_t unknown, unopened; /* connection: of nobody's SSRC; did not authenticate or came before */
    uint64_t repeated, gated;   /* source: came before or too late; came while nothing might pass */
    uint64_t retransmitted;     /* lane */
    int64_t highest;            /* source: newest sequence; lane: newest one sent */
    int64_t sequence_offset;    /* lane: outgoing less incoming */
    uint32_t timestamp_offset;  /* lane */
    uint32_t source;            /* lane: what it carries now, 0: nothing */
} fp_counters;

typedef struct fp_engine fp_engine;

/* --- life ------------------------------------------------------------------------------------------- */

uint64_t fp_abi(void); /* the checksum of the files that it was built from; whoever loads the library compares it */
/* `sockets`: bound, non-blocking UDP sockets, at most 64; they stay the caller's. `wake`: an eventfd that is
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
int fp_bind(fp_engine *engine, uint32_t connection, const fp_address *address);     /* what comes from there is its */
int fp_unbind(fp_engine *engine, uint32_t connection, const fp_address *address);   /* not any more */
int fp_nominate(fp_engine *engine, uint32_t connection, const fp_address *address); /* where we send to */
int fp_secure(fp_engine *engine, uint32_t connection, void *protect, void *unprotect);
/* Seal and send it with the next batch; whoever calls does not wait for this one. FP_FULL: a thousand wait. */
int fp_send_rtcp(fp_engine *engine, uint32_t connection, const uint8_t *compound, int size);
/* Handle an opened RTP packet as if it came now: a stranger whose SSRC has been named meanwhile. */
int fp_inject(fp_engine *engine, uint32_t connection, const uint8_t *packet, int size);
int fp_retry(fp_engine *engine, uint32_t connection); /* strangers are told again */
/* Number what is sent on it for the whole connection (twcc.h), in lanes that carry with an extension for that. */
int fp_number(fp_engine *engine, uint32_t connection);
int fp_probe(fp_engine *engine, uint32_t connection, int probe);                                    /* twcc_probe */
int fp_settle(fp_engine *engine, uint32_t connection);                                               /* twcc_settle */
int fp_feedback(fp_engine *engine, uint32_t connection, const uint8_t *body, int size, twcc_report *said); /* 1: it made sense */
int fp_connection_counters(fp_engine *engine, uint32_t connection, fp_counters *out);
void fp_close(fp_engine *engine, uint32_t connection); /* with its sources and lanes */

/* --- sources: a track of a publisher, or one layer of it --------------------------------------------- */

/* `until_us` as in fp_gate. 0: full, or the connection is gone. */
uint32_t fp_source(fp_engine *engine, uint32_t connection, int codec, int clock_rate, int64_t until_us);
/* That SSRC brings it, or (`repairs`) brings it again (RFC 4588). FP_FULL: 192 are known on that connection. Of those
 * that are named 96 may come in its life, whoever had them. */
int fp_name(fp_engine *engine, uint32_t source, uint32_t ssrc, int repairs);
/* Which header extensions are told of its packets, by their ids, 0: none: transport-wide number and audio level. */
int fp_read(fp_engine *engine, uint32_t source, int wide, int level);
/* Forward until then, whatever anybody is doing: INT64_MAX, a budget's end, 0 (nothing passes). `from`: begin
 * with this sequence, which is still in the ring (a key frame that was judged first); -1: with what comes.
 * Returns the newest sequence that has come, -1: none, FP_GONE - 1 (-2): no such source. */
int64_t fp_gate(fp_engine *engine, uint32_t source, int64_t until_us, int64_t from);
int fp_source_counters(fp_engine *engine, uint32_t source, fp_counters *out);
void fp_drop(fp_engine *engine, uint32_t source);

/* --- lanes: one SSRC of a subscriber, carrying at most one source ------------------------------------ */

uint32_t fp_lane(fp_engine *engine, uint32_t connection, uint32_t ssrc, uint32_t retransmission_ssrc);
/* Carry `source` from its next key frame on (sound: packet); until then, what is carried now. 0: nothing, at once.
 * `before`: when the lane carries that source, `ticks` added to a timestamp of the new one is what the old one
 * shows at the same moment; 0: it is not known. `extension`: the id under which the transport-wide number goes, 1 to
 * 14, 0: none; only with a retransmission stream. `ticket` comes back with FP_ENTERED. May be repeated. */
typedef struct {
    uint32_t source, ticket, before, ticks;
    uint8_t payload_type, retransmission_type, extension, reserved;
} fp_wish;
int fp_carry(fp_engine *engine, uint32_t lane, const fp_wish *wish);
/* Send as much of nothing as a packet may hold (255 bytes) on the retransmission stream. */
int fp_pad(fp_engine *engine, uint32_t lane);
int fp_resend(fp_engine *engine, uint32_t lane, const uint16_t *numbers, int count); /* how many were sent */
int fp_lane_counters(fp_engine *engine, uint32_t lane, fp_counters *out);
void fp_end(fp_engine *engine, uint32_t lane);

/* For proofs of what is repaired: of so many fresh packets one is kept, but not sent. 0: all are. */
void fp_lose(fp_engine *engine, int one_in);
uint64_t fp_lost(fp_engine *engine);
