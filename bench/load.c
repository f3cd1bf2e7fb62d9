/* The load of the benches: sends RTP on time, counts and times what comes back, and costs little itself.
 *
 * One thread, no event loop. Packets look as a browser's: VP8 with picture ids, a key frame a second, sound with its
 * level, transport-wide numbers where they were negotiated, a sender report a second. Each carries the nanosecond in
 * which it was sent; one in SAMPLE of those that come back is opened for it. SRTP is libsrtp's, by the addresses
 * that load_use is given.
 */
#include "load_internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STAMP_AT = 16, SAMPLE = 16, BINS = 1 << 21, LATE_NS = 2000000, WIDTH = 1280, HEIGHT = 720, SPEAKS_S = 4, LOUD = 20, QUIET = 70 };

seal protect, unprotect, protect_rtcp, unprotect_rtcp;
load_counts counts;
int64_t to_monotonic_ns;

typedef struct {
    void *context;
    int socket, burst, size, payload_type, number_id, level_id, number_of, voice;
    struct sockaddr_in to;
    uint32_t ssrc, timestamp, step, frames, octets;
    uint16_t sequence, picture;
    int64_t period_ns, due_ns, report_ns;
    volatile int paused;
    uint64_t sent;
} stream;

static stream streams[MOST_STREAMS];
static uint16_t numbers[MOST_STREAMS]; /* transport-wide; of a connection's first stream */
static struct {
    void *context;
    int socket;
    volatile uint64_t received, again;
    volatile int64_t last_ns; /* when the kernel had its latest packet */
} sinks[MOST_STREAMS];
static volatile int stopping;
static int stream_count, sink_count, voices;
static uint32_t bins[BINS]; /* of a microsecond */

static int64_t clock_ns(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

void put_word(uint8_t *at, uint32_t value) { memcpy(at, (uint32_t[]){htonl(value)}, 4); }

uint32_t word_at(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return ntohl(value);
}

int to_address(struct sockaddr_in *out, const char *host, int port) {
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &out->sin_addr) == 1 ? 0 : -1;
}

void load_use(void *with, void *open, void *with_rtcp, void *open_rtcp) {
    protect = with, unprotect = open, protect_rtcp = with_rtcp, unprotect_rtcp = open_rtcp;
}

int load_stream(void *context, int socket, const char *host, int port, uint32_t ssrc, int payload_type, int burst, int size, uint32_t step, int64_t period_ns, int number_id, int level_id) {
    if (stream_count == MOST_STREAMS) return -1;
    int number = stream_count++, first = 0;
    while (first < number && streams[first].context != context) first++;
    streams[number] = (stream){
        .context = context, .socket = socket, .burst = burst, .size = size, .payload_type = payload_type,
        .ssrc = ssrc, .step = step, .period_ns = period_ns, .sequence = (uint16_t)(7919 * (number + 1) % 30000),
        .number_id = number_id, .level_id = level_id, .number_of = first, .voice = level_id ? voices++ : 0,
    };
    return to_address(&streams[number].to, host, port) ? -1 : number;
}

void load_switch(int number, int on) {
    streams[number].due_ns = now_ns();
    streams[number].frames = 0; /* it begins with a key frame */
    streams[number].paused = !on;
}

uint64_t load_sent(int number) { return streams[number].sent; }

int load_sink(void *context, int socket) {
    int on = 1;
    if (sink_count == MOST_STREAMS || setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)) return -1;
    sinks[sink_count].context = context;
    sinks[sink_count].socket = socket;
    return sink_count++;
}

uint64_t load_received(int number) { return sinks[number].received; }

uint64_t load_again(int number) { return sinks[number].again; }

int64_t load_last_ns(int number) { return sinks[number].last_ns; }

static int64_t arrived_ns(struct msghdr *message, int64_t otherwise) {
    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at))
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec then;
            memcpy(&then, CMSG_DATA(at), sizeof then);
            return (int64_t)then.tv_sec * 1000000000 + then.tv_nsec + to_monotonic_ns;
        }
    return otherwise;
}

/* Of twenty who could, one speaks at a time. */
static uint8_t level_of(const stream *from, int64_t now) {
    return now / 1000000000 / SPEAKS_S % voices == from->voice ? 0x80 | LOUD : QUIET;
}

/* Header extensions of one byte each (RFC 8285 section 4.2); where the payload begins. */
static int extend(stream *from, uint8_t *data, int64_t now) {
    int at = HEADER + 4;
    if (!from->number_id && !from->level_id) return HEADER;
    if (from->number_id) {
        uint16_t number = ++numbers[from->number_of];
        data[at++] = (uint8_t)(from->number_id << 4 | 1), data[at++] = (uint8_t)(number >> 8), data[at++] = (uint8_t)number;
    }
    if (from->level_id) data[at++] = (uint8_t)(from->level_id << 4), data[at++] = level_of(from, now);
    at += -at & 3;
    data[0] |= 0x10;
    put_word(data + HEADER, 0xBEDE0000u | (uint32_t)(at - HEADER - 4) / 4);
    return at;
}

/* The beginning of a VP8 packet: a descriptor with a picture id (RFC 7741 section 4.2), and of a picture's first one
 * its frame tag, with the size if it is a key frame (RFC 6386 section 9.1). */
static void describe(const stream *from, uint8_t *payload, int is_first) {
    int is_key = from->frames % (uint32_t)(1000000000 / from->period_ns) == 0;
    memcpy(payload, (uint8_t[]){is_first ? 0x90 : 0x80, 0x80, (uint8_t)(0x80 | from->picture >> 8), (uint8_t)from->picture}, 4);
    if (!is_first) return;
    payload[4] = is_key ? 0x10 : 0x11;
    if (is_key) memcpy(payload + 7, (uint8_t[]){0x9D, 0x01, 0x2A, (uint8_t)WIDTH, WIDTH >> 8, (uint8_t)HEIGHT, HEIGHT >> 8}, 7);
}

static void send_frame(stream *from) {
    for (int number = 0; number < from->burst; number++) {
        uint8_t data[LARGEST] = {0};
        int last = number == from->burst - 1, size = from->size;
        int64_t stamp = now_ns();
        data[0] = 0x80;
        data[1] = (uint8_t)(last << 7 | from->payload_type);
        ++from->sequence;
        data[2] = (uint8_t)(from->sequence >> 8), data[3] = (uint8_t)from->sequence;
        put_word(data + 4, from->timestamp);
        put_word(data + 8, from->ssrc);
        int payload = extend(from, data, stamp);
        if (size > SOUND_BYTES) describe(from, data + payload, !number);
        memcpy(data + payload + STAMP_AT, &stamp, sizeof stamp);
        from->octets += (uint32_t)(size - payload);
        if (protect(from->context, data, &size)) {
            counts.failed++;
            continue;
        }
        if (sendto(from->socket, data, (size_t)size, MSG_DONTWAIT, (struct sockaddr *)&from->to, sizeof from->to) < 0) counts.failed++;
        counts.sent++, from->sent++;
    }
    from->timestamp += from->step, from->frames++, from->picture = (from->picture + 1) & 0x7FFF;
}

/* Which moment the frame before was due, and its timestamp (RFC 3550 section 6.4.1), and a name (6.5.1). */
static void report(stream *from) {
    uint8_t data[LARGEST] = {0x80, 200, 0, 6};
    int64_t moment = from->due_ns - from->period_ns - to_monotonic_ns;
    int size = 28 + 16;
    put_word(data + 4, from->ssrc);
    put_word(data + 8, (uint32_t)(moment / 1000000000 + 2208988800));
    put_word(data + 12, (uint32_t)((moment % 1000000000 << 32) / 1000000000));
    put_word(data + 16, from->timestamp - from->step);
    put_word(data + 20, (uint32_t)from->sent);
    put_word(data + 24, from->octets);
    memcpy(data + 28, (uint8_t[]){0x81, 202, 0, 3}, 4);
    put_word(data + 32, from->ssrc);
    memcpy(data + 36, "\1\4load", 6);
    if (!protect_rtcp(from->context, data, &size))
        sendto(from->socket, data, (size_t)size, MSG_DONTWAIT, (struct sockaddr *)&from->to, sizeof from->to);
}

static void time_it(int number, uint8_t *data, int size, int64_t came) {
    int64_t stamp;
    int head = HEADER + (data[0] & 0x10 ? 4 + 4 * (data[HEADER + 2] << 8 | data[HEADER + 3]) : 0);
    if (unprotect(sinks[number].context, data, &size) || size < head + STAMP_AT + 8) {
        counts.unreadable++;
        return;
    }
    memcpy(&stamp, data + head + STAMP_AT, sizeof stamp);
    int64_t late_us = (came - stamp) / 1000;
    bins[late_us < 0 ? 0 : late_us >= BINS ? BINS - 1 : late_us]++;
}

static void receive(int number) {
    static uint8_t data[BATCH][LARGEST] __attribute__((aligned(16))), control[BATCH][64] __attribute__((aligned(16)));
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    memset(messages, 0, sizeof messages);
    for (int at = 0; at < BATCH; at++) {
        parts[at] = (struct iovec){.iov_base = data[at], .iov_len = LARGEST};
        messages[at].msg_hdr = (struct msghdr){.msg_iov = &parts[at], .msg_iovlen = 1, .msg_control = control[at], .msg_controllen = sizeof control[at]};
    }
    int got = recvmmsg(sinks[number].socket, messages, BATCH, MSG_DONTWAIT, NULL);
    int64_t now = now_ns();
    for (int at = 0; at < got; at++) {
        int size = (int)messages[at].msg_len;
        if (size < HEADER || data[at][0] < 128 || data[at][0] > 191) continue;
        int64_t came = sinks[number].last_ns = arrived_ns(&messages[at].msg_hdr, now);
        if (data[at][1] >= 192 && data[at][1] <= 223) {
            counts.rtcp++;
            take_compound(number, sinks[number].context, data[at], size, came);
        } else if (!take_note(number, data[at], size, came)) {
            counts.again++, sinks[number].again++;
        } else {
            sinks[number].received++;
            if (++counts.received % SAMPLE == 0) time_it(number, data[at], size, came);
        }
    }
}

void load_run(double seconds) {
    struct epoll_event ready[BATCH];
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int at = 0; at < sink_count; at++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)at};
        epoll_ctl(poll, EPOLL_CTL_ADD, sinks[at].socket, &event);
    }
    memset(&counts, 0, sizeof counts);
    memset(bins, 0, sizeof bins);
    stopping = 0;
    to_monotonic_ns = clock_ns(CLOCK_MONOTONIC) - clock_ns(CLOCK_REALTIME);
    int64_t began = now_ns(), end = began + (int64_t)(seconds * 1e9), settled = end + 300000000;
    /* Spread over their period, the same way in every run. */
    for (int at = 0; at < stream_count; at++) streams[at].due_ns = began + streams[at].period_ns * (at * 7919 % 1000) / 1000;
    for (int64_t now; (now = now_ns()) < settled && !stopping;) {
        int64_t next = now + 1000000;
        for (int at = 0; now < end && at < stream_count; at++) {
            if (streams[at].paused) continue;
            if (streams[at].due_ns <= now) {
                counts.frames++, counts.late += now - streams[at].due_ns > LATE_NS;
                send_frame(&streams[at]);
                streams[at].due_ns += streams[at].period_ns;
                if (streams[at].report_ns <= now) report(&streams[at]), streams[at].report_ns = now + 1000000000;
            }
            if (streams[at].due_ns < next) next = streams[at].due_ns;
        }
        for (int at = 0; at < sink_count; at++) answer(at, now);
        int64_t wait = next - now_ns();
        struct timespec patience = {.tv_nsec = wait < 0 ? 0 : wait};
        int got = epoll_pwait2(poll, ready, BATCH, &patience, NULL);
        for (int at = 0; at < got; at++) receive((int)ready[at].data.u32);
    }
    close(poll);
}

void load_stop(void) { stopping = 1; }

void load_read(load_counts *out) { *out = counts; }

double load_percentile_us(double share) {
    uint64_t all = 0, passed = 0;
    for (int at = 0; at < BINS; at++) all += bins[at];
    for (int at = 0; at < BINS; at++)
        if ((passed += bins[at]) > 0 && (double)passed >= share * (double)all) return at;
    return 0;
}

void load_clear(void) {
    stream_count = sink_count = voices = 0;
    forget_answers();
}
