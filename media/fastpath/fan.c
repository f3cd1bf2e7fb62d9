/* See fan.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "twcc.h"
#pragma GCC visibility push(default)
#include "fan.h"
#pragma GCC visibility pop

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* linux/udp.h, since 4.18 */
#endif

enum {
    HEADER = 12,
    NUMBERED = HEADER + 8, /* with a transport-wide number in an extension (RFC 8285 section 4.2) */
    LARGEST_PACKET = 1500,
    TRAILER = 64, /* more than any SRTP tag and that extension */
    OVERHEAD = 44, /* on the line besides: SRTP's tag, UDP, IPv4 */
    MOST_DESTINATIONS = 1 << 12,
    MOST_PENDING = 1 << 11,
    MOST_SEGMENTS = 48,  /* of one train; the kernel takes 64 */
    MOST_BYTES = 65000,  /* of one train; the kernel takes 65,507 */
    INDEX_MASK = MOST_DESTINATIONS - 1
};

typedef struct {
    uint32_t id; /* index and generation; 0: free */
    void *context;
    twcc *history; /* NULL: nothing is numbered */
    int socket;
    struct sockaddr_storage name;
    socklen_t name_size;
    int first, last; /* of what waits; -1: nothing */
    bool touched;
    bool no_trains; /* the path to it takes none */
    uint64_t refused;
} destination;

typedef struct {
    uint8_t *data;
    int size, next;
} pending;

struct fan {
    int (*protect)(void *, void *, int *);
    destination destinations[MOST_DESTINATIONS];
    uint32_t free[MOST_DESTINATIONS];
    uint32_t free_count, generation;
    pending pendings[MOST_PENDING];
    int pending_count;
    uint32_t touched[MOST_DESTINATIONS]; /* indices */
    int touched_count;
    bool no_trains; /* this kernel or this network card cannot, wherever to */
    uint8_t arena[MOST_PENDING][LARGEST_PACKET + TRAILER] __attribute__((aligned(16)));
};

fan *fan_new(int (*protect)(void *, void *, int *)) {
    fan *all = calloc(1, sizeof *all);
    if (all == NULL) return NULL;
    all->protect = protect;
    for (uint32_t index = MOST_DESTINATIONS - 1; index > 0; index--) all->free[all->free_count++] = index;
    return all;
}

void fan_free(fan *all) { free(all); }

int fan_abi(void) { return 3; }

static destination *find(fan *all, uint32_t id) {
    destination *found = &all->destinations[id & INDEX_MASK];
    return id != 0 && found->id == id ? found : NULL;
}

uint32_t fan_destination(fan *all, void *context, int socket, const void *name, int size, twcc *history) {
    if (all->free_count == 0 || size < 1 || (size_t)size > sizeof(struct sockaddr_storage)) return 0;
    uint32_t index = all->free[--all->free_count];
    destination *fresh = &all->destinations[index];
    bool touched = fresh->touched; /* its former owner went in the middle of a batch */
    *fresh = (destination){
        .context = context, .history = history, .socket = socket, .name_size = (socklen_t)size, .first = -1, .last = -1,
    };
    fresh->touched = touched;
    memcpy(&fresh->name, name, (size_t)size);
    all->generation = (all->generation + 1) % (UINT32_MAX / MOST_DESTINATIONS);
    return fresh->id = all->generation * MOST_DESTINATIONS + index;
}

void fan_forget(fan *all, uint32_t id) {
    destination *gone = find(all, id);
    if (gone == NULL) return;
    gone->id = 0;
    gone->context = NULL, gone->history = NULL; /* and flush passes by who has no id */
    all->free[all->free_count++] = id & INDEX_MASK;
}

uint64_t fan_refused(fan *all, uint32_t id) {
    destination *found = find(all, id);
    return found ? found->refused : 0;
}

/* --- sealing ------------------------------------------------------------------------------------------- */

static void put16(uint8_t *at, uint16_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, (uint16_t)(value >> 16)), put16(at + 2, (uint16_t)value); }

/* RFC 7741, section 4.2; the picture id has been widened to 15 bits on its way in. */
static void shift_vp8(uint8_t *payload, int size, const fan_lane *lane) {
    if (size < 2 || !(payload[0] & 0x80)) return;
    int at = 2, flags = payload[1];
    if (flags & 0x80) {
        if (at + 2 > size) return;
        uint16_t picture = (uint16_t)((payload[at] << 8 | payload[at + 1]) + lane->picture_offset);
        put16(payload + at, 0x8000 | picture);
        at += 2;
    }
    if (flags & 0x40 && at < size) payload[at] = (uint8_t)(payload[at] + lane->level_offset);
}

/* The one-byte form, one element of two bytes and a byte of padding. */
static void number(uint8_t *at, uint8_t identifier, uint16_t value) {
    put32(at, 0xBEDE0001);
    at[4] = (uint8_t)(identifier << 4 | 1);
    put16(at + 5, value);
    at[7] = 0;
}

static void line_up(fan *all, destination *to, int place) {
    if (to->first < 0) {
        to->first = place;
        if (!to->touched) all->touched[all->touched_count++] = to->id & INDEX_MASK;
        to->touched = true;
    } else {
        all->pendings[to->last].next = place;
    }
    to->last = place;
}

void fan_packet(fan *all, const fan_lane *lanes, int count, const uint8_t *packet, int size, uint16_t sequence, uint32_t timestamp, uint8_t marker) {
    if (size < HEADER || size > LARGEST_PACKET) return;
    int64_t now_us = 0;
    for (const fan_lane *lane = lanes; lane < lanes + count; lane++) {
        destination *to = find(all, lane->destination);
        if (to == NULL) continue;
        if (all->pending_count == MOST_PENDING) fan_flush(all);
        uint8_t *data = all->arena[all->pending_count];
        bool numbered = lane->extension != 0 && to->history != NULL;
        int header = numbered ? NUMBERED : HEADER, sealed = size - HEADER + header;
        data[0] = numbered ? 0x90 : 0x80;
        data[1] = marker | lane->payload_type;
        put16(data + 2, (uint16_t)(sequence + lane->sequence_offset));
        put32(data + 4, timestamp + lane->timestamp_offset);
        put32(data + 8, lane->ssrc);
        if (numbered) {
            if (now_us == 0) now_us = twcc_now();
            number(data + HEADER, lane->extension, twcc_stamp(to->history, now_us, sealed + OVERHEAD));
        }
        memcpy(data + header, packet + HEADER, (size_t)(size - HEADER));
        if (lane->shifted) shift_vp8(data + header, size - HEADER, lane);
        if (all->protect(to->context, data, &sealed)) {
            to->refused++;
            continue;
        }
        all->pendings[all->pending_count] = (pending){.data = data, .size = sealed, .next = -1};
        line_up(all, to, all->pending_count++);
    }
}

/* --- sending ------------------------------------------------------------------------------------------- */

/* Send a train: `count` packets of one size, the last may be smaller. False: try again one by one. */
static bool send_train(destination *to, struct iovec *parts, int count, int size) {
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {
        .msg_name = &to->name, .msg_namelen = to->name_size, .msg_iov = parts, .msg_iovlen = (size_t)count,
    };
    if (count > 1) {
        message.msg_control = control.bytes, message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        uint16_t segment = (uint16_t)size;
        header->cmsg_level = IPPROTO_UDP, header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(header), &segment, sizeof segment);
    }
    if (sendmsg(to->socket, &message, MSG_DONTWAIT) >= 0) return true;
    if (count > 1 && (errno == EIO || errno == EINVAL || errno == EMSGSIZE || errno == EOPNOTSUPP)) return false;
    to->refused += (uint64_t)count;
    return true;
}

static void flush(fan *all, destination *to) {
    struct iovec parts[MOST_SEGMENTS];
    int most = all->no_trains || to->no_trains ? 1 : MOST_SEGMENTS;
    for (int at = to->first; at >= 0;) {
        int count = 0, size = all->pendings[at].size, total = 0, next = at;
        while (next >= 0 && count < most) {
            const pending *each = &all->pendings[next];
            if (each->size > size || total + each->size > MOST_BYTES) break;
            parts[count++] = (struct iovec){.iov_base = each->data, .iov_len = (size_t)each->size};
            total += each->size;
            next = each->next;
            if (each->size < size) break;
        }
        if (send_train(to, parts, count, size)) {
            at = next;
        } else {
            /* Too large a segment for one viewer's path (EINVAL; EMSGSIZE in newer kernels) is that viewer's affair. */
            most = 1;
            *(errno == EIO || errno == EOPNOTSUPP ? &all->no_trains : &to->no_trains) = true;
        }
    }
    to->first = to->last = -1;
}

void fan_flush(fan *all) {
    for (int at = 0; at < all->touched_count; at++) {
        destination *to = &all->destinations[all->touched[at]];
        to->touched = false;
        if (to->id != 0) flush(all, to);
    }
    all->touched_count = all->pending_count = 0;
}
