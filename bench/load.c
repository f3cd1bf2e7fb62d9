/* The load of the forwarding bench: sends RTP on time, counts and times what comes back, and costs little itself.
 *
 * One thread, no event loop. Each packet carries the nanosecond in which it was sent; one in SAMPLE of those
 * that come back is opened for it. SRTP is libsrtp's, by the addresses that load_use is given.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

enum { HEADER = 12, STAMP_AT = 16, BATCH = 64, SAMPLE = 16, MOST_STREAMS = 4096, BINS = 1 << 21, LARGEST = 2048, PESTER_NS = 10000000, LATE_NS = 2000000 };

typedef int (*seal)(void *, void *, int *);
static seal protect, unprotect, protect_rtcp;

typedef struct {
    void *context;
    int socket, burst, size, payload_type;
    struct sockaddr_in to;
    uint32_t ssrc, timestamp, step;
    uint16_t sequence;
    int64_t period_ns, due_ns;
    volatile int paused;
    uint64_t sent;
} stream;

static stream streams[MOST_STREAMS];
static struct {
    void *context;
    int socket, is_timed;
    volatile uint64_t received;
    volatile int64_t last_ns; /* of a timed one: when the kernel had its latest packet */
} sinks[MOST_STREAMS];
/* Clients that go on whatever they are told: NACKs of the latest packets, PLIs, and the same STUN check again. */
static struct {
    void *context;
    int socket, check_size;
    struct sockaddr_in to;
    uint8_t check[256];
    uint32_t ssrc;
    uint16_t sequence;
    int64_t due_ns;
    volatile int is_on;
} hostiles[MOST_STREAMS];
static volatile int stopping;
static int64_t to_monotonic_ns;
static int stream_count, sink_count;
static load_counts counts;
static uint32_t bins[BINS]; /* of a microsecond */

static int64_t clock_ns(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

void load_use(void *protect_with, void *unprotect_with) { protect = protect_with, unprotect = unprotect_with; }

int load_stream(void *context, int socket, const char *host, int port, uint32_t ssrc, int payload_type, int burst, int size, uint32_t step, int64_t period_ns) {
    if (stream_count == MOST_STREAMS) return -1;
    stream *fresh = &streams[stream_count++];
    *fresh = (stream){
        .context = context, .socket = socket, .burst = burst, .size = size, .payload_type = payload_type,
        .ssrc = ssrc, .step = step, .period_ns = period_ns, .sequence = (uint16_t)(7919 * stream_count % 30000),
    };
    fresh->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &fresh->to.sin_addr) == 1 ? stream_count - 1 : -1;
}

void load_switch(int number, int on) {
    streams[number].due_ns = now_ns();
    streams[number].paused = !on;
}

uint64_t load_sent(int number) { return streams[number].sent; }

int load_sink(void *context, int socket) {
    if (sink_count == MOST_STREAMS) return -1;
    sinks[sink_count].context = context;
    sinks[sink_count].socket = socket;
    return sink_count++;
}

uint64_t load_received(int number) { return sinks[number].received; }

int64_t load_last_ns(int number) { return sinks[number].last_ns; }

int load_times(int number) {
    int on = 1;
    sinks[number].is_timed = !setsockopt(sinks[number].socket, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    return sinks[number].is_timed ? 0 : -1;
}

int load_hostile(int number, void *with, void *context, const char *host, int port, const uint8_t *check, int size) {
    if (size > (int)sizeof hostiles[0].check) return -1;
    protect_rtcp = with;
    hostiles[number].context = context, hostiles[number].socket = sinks[number].socket;
    hostiles[number].to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    memcpy(hostiles[number].check, check, (size_t)size);
    hostiles[number].check_size = size;
    if (load_times(number)) return -1;
    hostiles[number].is_on = 1;
    return inet_pton(AF_INET, host, &hostiles[number].to.sin_addr) == 1 ? 0 : -1;
}

static void pester(int number) {
    uint8_t data[LARGEST] = {0};
    uint32_t ours = htonl(1), theirs = htonl(hostiles[number].ssrc);
    uint16_t first = htons((uint16_t)(hostiles[number].sequence - 16));
    int size = 8 + 16 + 12;
    memcpy(data, (uint8_t[]){0x80, 201, 0, 1}, 4); /* an empty receiver report goes first (RFC 3550 section 6.1) */
    memcpy(data + 4, &ours, 4);
    memcpy(data + 8, (uint8_t[]){0x81, 205, 0, 3}, 4); /* NACK (RFC 4585 section 6.2.1) */
    memcpy(data + 12, &ours, 4);
    memcpy(data + 16, &theirs, 4);
    memcpy(data + 20, &first, 2);
    data[22] = data[23] = 0xFF;
    memcpy(data + 24, (uint8_t[]){0x81, 206, 0, 2}, 4); /* PLI (section 6.3.1) */
    memcpy(data + 28, &ours, 4);
    memcpy(data + 32, &theirs, 4);
    if (hostiles[number].ssrc && !protect_rtcp(hostiles[number].context, data, &size))
        sendto(hostiles[number].socket, data, (size_t)size, MSG_DONTWAIT, (struct sockaddr *)&hostiles[number].to, sizeof hostiles[number].to);
    sendto(hostiles[number].socket, hostiles[number].check, (size_t)hostiles[number].check_size, MSG_DONTWAIT, (struct sockaddr *)&hostiles[number].to, sizeof hostiles[number].to);
}

static int64_t arrived_ns(struct msghdr *message, int64_t otherwise) {
    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at))
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec then;
            memcpy(&then, CMSG_DATA(at), sizeof then);
            return (int64_t)then.tv_sec * 1000000000 + then.tv_nsec + to_monotonic_ns;
        }
    return otherwise;
}

static void send_frame(stream *from) {
    for (int number = 0; number < from->burst; number++) {
        uint8_t data[LARGEST] = {0};
        int last = number == from->burst - 1, size = from->size;
        uint16_t sequence = htons(++from->sequence);
        uint32_t timestamp = htonl(from->timestamp), ssrc = htonl(from->ssrc);
        int64_t stamp = now_ns();
        data[0] = 0x80;
        data[1] = (uint8_t)(last << 7 | from->payload_type);
        memcpy(data + 2, &sequence, 2);
        memcpy(data + 4, &timestamp, 4);
        memcpy(data + 8, &ssrc, 4);
        /* Each packet looks like the start of a VP8 key frame, so that forwarding begins at any of them. */
        data[HEADER] = 0x10;
        memcpy(data + STAMP_AT, &stamp, sizeof stamp);
        if (protect(from->context, data, &size)) {
            counts.failed++;
            continue;
        }
        if (sendto(from->socket, data, (size_t)size, MSG_DONTWAIT, (struct sockaddr *)&from->to, sizeof from->to) < 0) counts.failed++;
        counts.sent++, from->sent++;
    }
    from->timestamp += from->step;
}

static void receive(int number) {
    static uint8_t data[BATCH][LARGEST] __attribute__((aligned(16))), control[BATCH][64] __attribute__((aligned(16)));
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    memset(messages, 0, sizeof messages);
    for (int at = 0; at < BATCH; at++) {
        parts[at] = (struct iovec){.iov_base = data[at], .iov_len = LARGEST};
        messages[at].msg_hdr.msg_iov = &parts[at], messages[at].msg_hdr.msg_iovlen = 1;
        if (sinks[number].is_timed) messages[at].msg_hdr.msg_control = control[at], messages[at].msg_hdr.msg_controllen = sizeof control[at];
    }
    int got = recvmmsg(sinks[number].socket, messages, BATCH, MSG_DONTWAIT, NULL);
    int64_t now = now_ns();
    for (int at = 0; at < got; at++) {
        int size = (int)messages[at].msg_len;
        if (size < HEADER || data[at][0] < 128 || data[at][0] > 191) continue;
        int64_t came = sinks[number].is_timed ? arrived_ns(&messages[at].msg_hdr, now) : now;
        sinks[number].last_ns = came;
        if (data[at][1] >= 192 && data[at][1] <= 223) {
            counts.rtcp++;
            continue;
        }
        sinks[number].received++;
        if (hostiles[number].is_on) {
            uint16_t sequence;
            memcpy(&sequence, data[at] + 2, 2);
            memcpy(&hostiles[number].ssrc, data[at] + 8, 4);
            hostiles[number].ssrc = ntohl(hostiles[number].ssrc), hostiles[number].sequence = ntohs(sequence);
        }
        if (++counts.received % SAMPLE) continue;
        int64_t stamp;
        int head = HEADER + (data[at][0] & 0x10 ? 4 + 4 * (data[at][HEADER + 2] << 8 | data[at][HEADER + 3]) : 0);
        if (unprotect(sinks[number].context, data[at], &size) || size < head + STAMP_AT - HEADER + 8) {
            counts.unreadable++;
            continue;
        }
        memcpy(&stamp, data[at] + head + STAMP_AT - HEADER, sizeof stamp);
        int64_t late_us = (came - stamp) / 1000;
        bins[late_us < 0 ? 0 : late_us >= BINS ? BINS - 1 : late_us]++;
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
            }
            if (streams[at].due_ns < next) next = streams[at].due_ns;
        }
        for (int at = 0; at < sink_count; at++) {
            if (!hostiles[at].is_on || !sinks[at].received || hostiles[at].due_ns > now) continue;
            pester(at);
            hostiles[at].due_ns = now + PESTER_NS;
        }
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

void load_clear(void) { stream_count = sink_count = 0; }
