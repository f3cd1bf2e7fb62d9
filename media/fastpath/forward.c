/* From one publisher's packet to every subscriber's: numbers, ring, lanes, sealing, sending in runs.
 *
 * A subscriber sees one continuous stream in a lane, whatever it carries. An outgoing sequence number never
 * stands for two different packets: under AES-GCM that would give the key away (RFC 7714, section 8).
 */
#include "internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* --- taking in ------------------------------------------------------------------------------------------ */

/* The extended number nearest to the highest seen (RFC 3550, A.1); one cycle up, so that none is below zero. */
static int64_t extend(const source *from, uint16_t sequence) {
    if (from->highest < 0) return (int64_t)sequence + 0x10000;
    uint16_t step = (uint16_t)(sequence - (uint16_t)from->highest);
    return step < 0x8000 ? from->highest + step : from->highest + step - 0x10000;
}

static void gap_opened(source *from, int64_t after, int64_t before) {
    if (before - after > MOST_MISSING) {
        from->missing_count = 0; /* a key frame mends a hole of that size */
        return;
    }
    int fresh = (int)(before - after - 1), keep = from->missing_count;
    if (keep + fresh > MOST_MISSING) {
        int drop = keep + fresh - MOST_MISSING;
        memmove(from->missing, from->missing + drop, (size_t)(keep - drop) * sizeof *from->missing);
        keep -= drop;
    }
    for (int64_t sequence = after + 1; sequence < before; sequence++) from->missing[keep++] = (gap){.sequence = sequence};
    from->missing_count = keep;
}

static void gap_filled(source *from, int64_t sequence) {
    for (int at = 0; at < from->missing_count; at++)
        if (from->missing[at].sequence == sequence) {
            int behind = --from->missing_count - at;
            memmove(from->missing + at, from->missing + at + 1, (size_t)behind * sizeof *from->missing);
            return;
        }
}

static void note_jitter(fp_engine *engine, source *from, uint32_t timestamp) {
    uint32_t transit = (uint32_t)(engine->now_us * from->clock_rate / 1000000) - timestamp;
    if (from->jitter_known) {
        uint32_t change = transit - from->transit;
        if (change & 0x80000000u) change = -change;
        from->jitter += (change - from->jitter) / 16;
    }
    from->transit = transit, from->jitter_known = true;
}

/* Whether this is news of a frame: its first packet to arrive, or the one that shows a key frame. */
static bool begins_frame(source *from, uint32_t timestamp, bool key) {
    if (from->codec == FP_OPUS) return true;
    if (!from->frame_known || rtp_later(timestamp, from->frame_timestamp)) {
        from->frame_known = true, from->frame_timestamp = timestamp, from->frame_key = key;
        return true;
    }
    if (key && timestamp == from->frame_timestamp && !from->frame_key) return from->frame_key = true;
    return false;
}

static bool keep(source *from, kept *slot, int64_t sequence, const packet *fresh, const uint8_t *payload, int size, bool key) {
    if (slot->payload == NULL || slot->room < size) {
        int room = (size | 63) + 1;
        uint8_t *more = realloc(slot->payload, (size_t)room);
        if (more == NULL) return false;
        slot->payload = more, slot->room = (uint16_t)room;
    }
    (void)from;
    memcpy(slot->payload, payload, (size_t)size);
    slot->sequence = sequence, slot->timestamp = fresh->timestamp, slot->size = (uint16_t)size;
    slot->marker = fresh->marker, slot->key = key;
    return true;
}

/* --- lanes ----------------------------------------------------------------------------------------------- */

static void enter(fp_engine *engine, lane *which, uint32_t index, const kept *at) {
    source *into = &engine->sources[index];
    if (which->source != 0) lane_unlist(&engine->sources[which->source], (uint32_t)(which - engine->lanes));
    which->source = index, which->next = 0;
    which->payload_type = which->next_payload_type, which->retransmission_type = which->next_retransmission_type;
    which->first = at->sequence;
    which->offset = which->highest + 1 - at->sequence;
    which->timestamp_offset = 0;
    if (which->began) {
        int64_t silence = (engine->now_us - which->sent_us) * into->clock_rate / 1000000;
        which->timestamp_offset = which->timestamp + (uint32_t)(silence < 1 ? 1 : silence) - at->timestamp;
    }
    which->began = true;
    vp8_numbers numbers;
    which->picture_offset = 0, which->level_offset = 0;
    if (into->codec == FP_VP8 && which->pictured && vp8_parse(at->payload, at->size, &numbers)) {
        which->picture_offset = (uint16_t)(which->picture + 1 - numbers.picture);
        which->level_offset = (uint8_t)(which->level + 1 - numbers.level);
    }
}

static void renumber(lane *which, uint8_t *payload, int size, bool newest) {
    vp8_numbers numbers;
    if (!vp8_parse(payload, size, &numbers) || !numbers.picture_at) return;
    uint16_t picture = (uint16_t)(numbers.picture + which->picture_offset);
    if (numbers.picture_bytes == 2) {
        payload[numbers.picture_at] = (uint8_t)(0x80 | (picture >> 8 & 0x7F));
        payload[numbers.picture_at + 1] = (uint8_t)picture;
    } else {
        payload[numbers.picture_at] = picture & 0x7F;
    }
    uint8_t level = (uint8_t)(numbers.level + which->level_offset);
    if (numbers.level_at) payload[numbers.level_at] = level;
    if (newest) which->picture = picture, which->level = level, which->pictured = true;
}

static void put16(uint8_t *at, uint16_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, (uint16_t)(value >> 16)), put16(at + 2, (uint16_t)value); }

/* Seal one packet as this lane's subscriber knows it, and put it in line for the end of the batch. */
static bool emit(fp_engine *engine, lane *which, const kept *what, int codec, bool again) {
    connection *to = &engine->connections[which->connection];
    if (to->protect == NULL || !to->nominated) return false;
    if (engine->pending_count == MOST_PENDING || engine->arena_used + LARGEST_DATAGRAM > ARENA_BYTES) forward_flush(engine);
    bool wrapped = again && which->retransmission_ssrc != 0 && which->retransmission_type != 0;
    int64_t sequence = what->sequence + which->offset;
    uint8_t *data = engine->arena + engine->arena_used, *body = data + HEADER;
    data[0] = 0x80;
    data[1] = (uint8_t)(what->marker << 7 | (wrapped ? which->retransmission_type : which->payload_type));
    put16(data + 2, wrapped ? ++which->retransmission_sequence : (uint16_t)sequence);
    put32(data + 4, what->timestamp + which->timestamp_offset);
    put32(data + 8, wrapped ? which->retransmission_ssrc : which->ssrc);
    if (wrapped) put16(body, (uint16_t)sequence), body += 2;
    memcpy(body, what->payload, what->size);
    bool newest = sequence > which->highest;
    if (codec == FP_VP8) renumber(which, body, what->size, newest);
    int size = (int)(body - data) + what->size;
    if (engine->srtp.protect(to->protect, data, &size)) {
        which->refused++;
        return false;
    }
    if (newest) which->highest = sequence, which->timestamp = what->timestamp + which->timestamp_offset, which->sent_us = engine->now_us;
    which->packets++;
    which->octets += what->size;
    engine->arena_used += ((size_t)size + 15) & ~(size_t)15;
    int place = engine->pending_count++;
    engine->pendings[place] = (pending){.data = data, .size = size, .next = -1};
    if (to->pending_first < 0) {
        to->pending_first = place;
        engine->touched[engine->touched_count++] = which->connection;
    } else {
        engine->pendings[to->pending_last].next = place;
    }
    to->pending_last = place;
    return true;
}

static void fan_out(fp_engine *engine, source *from, const kept *what, bool newest) {
    uint32_t index = (uint32_t)(from - engine->sources);
    bool may_enter = newest && (what->key || from->codec == FP_OPUS);
    for (int at = 0; at < from->lane_count; at++) {
        lane *which = &engine->lanes[from->lanes[at]];
        if (which->next == index && may_enter) enter(engine, which, index, what);
        if (which->source == index && what->sequence >= which->first) emit(engine, which, what, from->codec, false);
    }
}

/* --- the way in ------------------------------------------------------------------------------------------ */

void forward_packet(fp_engine *engine, source *from, const packet *fresh, bool retransmission) {
    const uint8_t *payload = fresh->payload;
    int size = fresh->size;
    uint16_t sequence = fresh->sequence;
    if (retransmission) { /* RFC 4588, section 4: the original number precedes the payload */
        if (size <= 2) return;
        sequence = (uint16_t)(payload[0] << 8 | payload[1]);
        payload += 2, size -= 2;
    }
    bool key = rtp_is_key(from->codec, payload, size), passes = engine->now_us < from->until_us;
    fp_record news = {
        .id = from->id, .at_us = engine->now_us, .timestamp = fresh->timestamp, .value = (uint32_t)size,
        .flags = (key ? FP_KEY : 0) | (fresh->marker ? FP_MARKER : 0) | (passes ? FP_PASSED : 0),
    };
    news.sequence = extend(from, sequence);
    if (begins_frame(from, fresh->timestamp, key)) {
        news.kind = FP_FRAME;
        from->keyframes += key;
        engine_tell(engine, &news, NULL);
    }
    if (!retransmission) note_jitter(engine, from, fresh->timestamp);
    kept *slot = &from->ring[news.sequence & from->ring_mask];
    bool newest = news.sequence > from->highest;
    if (!newest) {
        if (slot->sequence == news.sequence) {
            from->duplicates++;
            return;
        }
        if (news.sequence <= from->highest - (int64_t)from->ring_mask) {
            from->late++;
            return;
        }
        gap_filled(from, news.sequence);
    } else if (from->highest >= 0 && news.sequence > from->highest + 1) {
        gap_opened(from, from->highest, news.sequence);
    }
    if (!keep(from, slot, news.sequence, fresh, payload, size, key)) return;
    if (from->base < 0) from->base = news.sequence;
    if (newest) from->highest = news.sequence, from->timestamp = fresh->timestamp;
    from->packets++;
    from->octets += (uint64_t)size;
    if (!passes) {
        from->gated++;
        if (from->until_us > 0 && !from->told_end) {
            from->told_end = true;
            news.kind = FP_ENDED;
            engine_tell(engine, &news, NULL);
        }
        source_hush(engine, from);
        return;
    }
    fan_out(engine, from, slot, newest);
    if (from->flags & FP_COPY) {
        news.kind = FP_PACKET;
        news.size = (uint32_t)size;
        engine_tell(engine, &news, slot->payload);
    }
}

/* Send what was held back since `first`, as if it came now. */
void forward_replay(fp_engine *engine, source *from, int64_t first) {
    if (first <= from->highest - (int64_t)from->ring_mask) first = from->highest - (int64_t)from->ring_mask + 1;
    for (int64_t sequence = first; sequence <= from->highest; sequence++) {
        const kept *slot = &from->ring[sequence & from->ring_mask];
        if (slot->sequence == sequence) fan_out(engine, from, slot, true);
    }
}

bool forward_again(fp_engine *engine, lane *which, uint16_t number) {
    if (which->source == 0) return false;
    source *from = &engine->sources[which->source];
    if (engine->now_us >= from->until_us) return false;
    int64_t outgoing = which->highest - (uint16_t)((uint16_t)which->highest - number), sequence = outgoing - which->offset;
    if (sequence < which->first || sequence < 0) return false;
    const kept *slot = &from->ring[sequence & from->ring_mask];
    if (slot->sequence != sequence || !emit(engine, which, slot, from->codec, true)) return false;
    which->retransmitted++;
    return true;
}

/* --- out ------------------------------------------------------------------------------------------------- */

static socklen_t to_sockaddr(const fp_engine *engine, const fp_address *from, struct sockaddr_storage *to) {
    memset(to, 0, sizeof *to);
    if (engine->families[from->socket] == AF_INET) {
        struct sockaddr_in *four = (struct sockaddr_in *)to;
        four->sin_family = AF_INET, four->sin_port = htons(from->port);
        memcpy(&four->sin_addr, from->ip + 12, 4);
        return sizeof *four;
    }
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
    six->sin6_family = AF_INET6, six->sin6_port = htons(from->port);
    memcpy(&six->sin6_addr, from->ip, 16);
    return sizeof *six;
}

bool send_to(fp_engine *engine, const fp_address *to, const uint8_t *data, int size) {
    struct sockaddr_storage name;
    socklen_t length = to_sockaddr(engine, to, &name);
    return sendto(engine->sockets[to->socket], data, (size_t)size, MSG_DONTWAIT, (struct sockaddr *)&name, length) == size;
}

/* Send a run of equal sizes (the last may be smaller) at once; false: the kernel does not know how. */
static bool send_run(fp_engine *engine, connection *to, struct msghdr *message, int count, int segment) {
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {0};
    message->msg_control = NULL, message->msg_controllen = 0;
    if (count > 1) {
        message->msg_control = control.bytes, message->msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(message);
        header->cmsg_level = IPPROTO_UDP, header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        uint16_t value = (uint16_t)segment;
        memcpy(CMSG_DATA(header), &value, sizeof value);
    }
    if (sendmsg(engine->sockets[to->to.socket], message, MSG_DONTWAIT) >= 0) return true;
    if (count > 1 && (errno == EIO || errno == EINVAL || errno == EOPNOTSUPP)) return false;
    to->refused += (uint64_t)count;
    return true;
}

static void flush_connection(fp_engine *engine, connection *to) {
    struct sockaddr_storage name;
    struct iovec parts[MOST_SEGMENTS];
    struct msghdr message = {.msg_name = &name, .msg_namelen = to_sockaddr(engine, &to->to, &name), .msg_iov = parts};
    int at = to->pending_first;
    while (at >= 0) {
        int count = 0, segment = engine->pendings[at].size, total = 0, next = at, most = engine->no_segments ? 1 : MOST_SEGMENTS;
        while (next >= 0 && count < most) {
            const pending *each = &engine->pendings[next];
            if (each->size > segment || total + each->size > 65000) break;
            parts[count++] = (struct iovec){.iov_base = each->data, .iov_len = (size_t)each->size};
            total += each->size;
            next = each->next;
            if (each->size < segment) break;
        }
        message.msg_iovlen = (size_t)count;
        if (send_run(engine, to, &message, count, segment))
            at = next;
        else
            engine->no_segments = true; /* and once more, one by one */
    }
    to->pending_first = to->pending_last = -1;
}

void forward_flush(fp_engine *engine) {
    for (int at = 0; at < engine->touched_count; at++) flush_connection(engine, &engine->connections[engine->touched[at]]);
    engine->touched_count = engine->pending_count = 0;
    engine->arena_used = 0;
}
