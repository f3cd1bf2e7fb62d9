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

enum { HEADER = 12, STAMP_AT = 16, BATCH = 64, SAMPLE = 16, MOST_STREAMS = 256, BINS = 1 << 21, LARGEST = 2048 };

typedef int (*seal)(void *, void *, int *);
static seal protect, unprotect;

typedef struct {
    void *context;
    int socket, burst, size, payload_type;
    struct sockaddr_in to;
    uint32_t ssrc, timestamp, step;
    uint16_t sequence;
    int64_t period_ns, due_ns;
} stream;

static stream streams[MOST_STREAMS];
static struct {
    void *context;
    int socket;
} sinks[MOST_STREAMS];
static int stream_count, sink_count;
static load_counts counts;
static uint32_t bins[BINS]; /* of a microsecond */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void load_use(void *protect_with, void *unprotect_with) { protect = protect_with, unprotect = unprotect_with; }

int load_stream(void *context, int socket, const char *host, int port, uint32_t ssrc, int payload_type, int burst, int size, uint32_t step, int64_t period_ns) {
    if (stream_count == MOST_STREAMS) return -1;
    stream *fresh = &streams[stream_count++];
    *fresh = (stream){
        .context = context, .socket = socket, .burst = burst, .size = size, .payload_type = payload_type,
        .ssrc = ssrc, .step = step, .period_ns = period_ns, .sequence = (uint16_t)(7919 * stream_count % 30000),
    };
    fresh->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &fresh->to.sin_addr) == 1 ? 0 : -1;
}

int load_sink(void *context, int socket) {
    if (sink_count == MOST_STREAMS) return -1;
    sinks[sink_count].context = context;
    sinks[sink_count++].socket = socket;
    return 0;
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
        counts.sent++;
    }
    from->timestamp += from->step;
}

static void receive(int number) {
    static uint8_t data[BATCH][LARGEST] __attribute__((aligned(16)));
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    memset(messages, 0, sizeof messages);
    for (int at = 0; at < BATCH; at++) {
        parts[at] = (struct iovec){.iov_base = data[at], .iov_len = LARGEST};
        messages[at].msg_hdr.msg_iov = &parts[at], messages[at].msg_hdr.msg_iovlen = 1;
    }
    int got = recvmmsg(sinks[number].socket, messages, BATCH, MSG_DONTWAIT, NULL);
    int64_t now = now_ns();
    for (int at = 0; at < got; at++) {
        int size = (int)messages[at].msg_len;
        if (size < HEADER || data[at][0] < 128 || data[at][0] > 191) continue;
        if (data[at][1] >= 192 && data[at][1] <= 223) {
            counts.rtcp++;
            continue;
        }
        if (++counts.received % SAMPLE) continue;
        int64_t stamp;
        int head = HEADER + (data[at][0] & 0x10 ? 4 + 4 * (data[at][HEADER + 2] << 8 | data[at][HEADER + 3]) : 0);
        if (unprotect(sinks[number].context, data[at], &size) || size < head + STAMP_AT - HEADER + 8) {
            counts.unreadable++;
            continue;
        }
        memcpy(&stamp, data[at] + head + STAMP_AT - HEADER, sizeof stamp);
        int64_t late_us = (now - stamp) / 1000;
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
    int64_t began = now_ns(), end = began + (int64_t)(seconds * 1e9), settled = end + 300000000;
    /* Spread over their period, the same way in every run. */
    for (int at = 0; at < stream_count; at++) streams[at].due_ns = began + streams[at].period_ns * (at * 7919 % 1000) / 1000;
    for (int64_t now; (now = now_ns()) < settled;) {
        int64_t next = now + 1000000;
        for (int at = 0; now < end && at < stream_count; at++) {
            if (streams[at].due_ns <= now) {
                send_frame(&streams[at]);
                streams[at].due_ns += streams[at].period_ns;
            }
            if (streams[at].due_ns < next) next = streams[at].due_ns;
        }
        int wait_ms = (int)((next - now_ns()) / 1000000), got = epoll_wait(poll, ready, BATCH, wait_ms < 0 ? 0 : wait_ms);
        for (int at = 0; at < got; at++) receive((int)ready[at].data.u32);
    }
    close(poll);
}

void load_read(load_counts *out) { *out = counts; }

double load_percentile_us(double share) {
    uint64_t all = 0, passed = 0;
    for (int at = 0; at < BINS; at++) all += bins[at];
    for (int at = 0; at < BINS; at++)
        if ((passed += bins[at]) > 0 && (double)passed >= share * (double)all) return at;
    return 0;
}

void load_clear(void) { stream_count = sink_count = 0; }
