/* From one publisher's packet to every subscriber's: numbers, ring, lanes, sealing, sending in trains.
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
#define UDP_SEGMENT 103 /* linux/udp.h, since 4.18 */
#endif

/* --- taking in ------------------------------------------------------------------------------------------ */

/* The extended number nearest to the highest seen (RFC 3550, A.1); one cycle up, so that none is below zero. */
static int64_t extend(const source *from, uint16_t sequence) {
    if (from->highest < 0) return (int64_t)sequence + 0x10000;
    uint16_t step = (uint16_t)(sequence - (uint16_t)from->highest);
    return step < 0x8000 ? from->highest + step : from->highest + step - 0x10000;
}

static bool keep(source *from, kept *slot, int64_t sequence, const packet *fresh, bool key) {
    int size = fresh->size;
    if (slot->payload == NULL || slot->room < size + 1) {
        int room = ((size + 1) | 63) + 1;
        uint8_t *more = realloc(slot->payload, (size_t)room);
        if (more == NULL) return false;
        slot->payload = more, slot->room = (uint16_t)room;
    }
    if (from->codec == FP_VP8)
        size = vp8_widen(fresh->payload, size, slot->payload);
    else
        memcpy(slot->payload, fresh->payload, (size_t)size);
    slot->sequence = sequence, slot->timestamp = fresh->timestamp, slot->size = (uint16_t)size;
    slot->marker = fresh->marker, slot->key = key, slot->passed = false;
    return true;
}

/* --- lanes ----------------------------------------------------------------------------------------------- */

/* The offset with which timestamps go on where the lane left off, always later. By the publisher's clock, if both
 * sources have it and it says nothing odd: lips stay in step over any number of changes, and a frame that would come
 * too early is shifted, which the next change forgets. Otherwise by arrival. */
static uint32_t timestamps_of(fp_engine *engine, lane *which, const source *into, uint32_t timestamp) {
    uint32_t early = which->early, apart = 0;
    which->early = 0;
    if (!which->began) return 0;
    int64_t silence_us = engine->now_us - which->sent_us;
    uint32_t silence = (uint32_t)((silence_us < 1000 ? 1 : silence_us / 1000) * into->clock_rate / 1000);
    uint32_t by_arrival = which->timestamp + silence - timestamp;
    if (which->last_source == 0) return by_arrival;
    if (which->last_source != into->id) {
        if (which->wish.before != which->last_source) return by_arrival;
        apart = which->wish.ticks;
    }
    uint32_t by_clock = which->timestamp_offset - early + apart;
    int32_t odd = (int32_t)(by_clock - by_arrival);
    if (odd > into->clock_rate || odd < -into->clock_rate) return by_arrival;
    int32_t short_of = (int32_t)(which->timestamp + 1 - timestamp - by_clock);
    which->early = short_of > 0 ? (uint32_t)short_of : 0;
    return by_clock + which->early;
}

static void enter(fp_engine *engine, lane *which, uint32_t index, const kept *at) {
    source *into = &engine->sources[index];
    if (which->source != 0) lane_unlist(&engine->sources[which->source], (uint32_t)(which - engine->lanes));
    which->source = index, which->next = 0;
    which->payload_type = which->wish.payload_type, which->retransmission_type = which->wish.retransmission_type;
    which->extension = which->wish.extension;
    which->first = at->sequence;
    /* From 1: the receiver's rollover counter must not wrap on its first packets (RFC 3711, section 3.3.1). */
    which->offset = which->highest + 1 - at->sequence;
    which->timestamp_offset = timestamps_of(engine, which, into, at->timestamp);
    which->began = true;
    which->last_source = into->id;
    vp8_numbers numbers;
    which->picture_offset = 0, which->level_offset = 0;
    if (into->codec == FP_VP8) {
        vp8_parse(at->payload, at->size, &numbers);
        if (which->pictured && numbers.picture_at) which->picture_offset = (uint16_t)(which->picture + 1 - numbers.picture);
        if (which->pictured && numbers.level_at) which->level_offset = (uint8_t)(which->level + 1 - numbers.level);
    }
    fp_entry entry = {
        .sequence_offset = which->offset, .source = into->id, .ticket = which->wish.ticket,
        .timestamp_offset = which->timestamp_offset, .picture_offset = which->picture_offset,
        .level_offset = which->level_offset,
    };
    fp_record record = {
        .kind = FP_ENTERED, .id = which->id, .at_us = engine->now_us, .sequence = at->sequence, .size = sizeof entry,
    };
    engine_tell(engine, &record, (uint8_t *)&entry);
}

static void put16(uint8_t *at, uint16_t value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }
static void put32(uint8_t *at, uint32_t value) { put16(at, (uint16_t)(value >> 16)), put16(at + 2, (uint16_t)value); }

static void renumber(lane *which, uint8_t *payload, int size, bool newest) {
    vp8_numbers numbers;
    vp8_parse(payload, size, &numbers);
    if (numbers.picture_at) {
        uint16_t picture = (uint16_t)(numbers.picture + which->picture_offset);
        put16(payload + numbers.picture_at, 0x8000 | picture);
        if (newest) which->picture = picture & 0x7FFF, which->pictured = true;
    }
    if (numbers.level_at) {
        payload[numbers.level_at] = (uint8_t)(numbers.level + which->level_offset);
        if (newest) which->level = payload[numbers.level_at];
    }
}

static void line_up(fp_engine *engine, connection *to, int place, uint32_t index) {
    if (to->pending_first < 0) {
        to->pending_first = place;
        engine->touched[engine->touched_count++] = index;
    } else {
        engine->pendings[to->pending_last].next = place;
    }
    to->pending_last = place;
}

/* The header of a packet of `size` bytes, numbered for the whole connection if it is to be; its length. */
static int head(fp_engine *engine, lane *which, uint8_t *data, int size, uint8_t kind, uint32_t timestamp, bool repairs) {
    connection *to = &engine->connections[which->connection];
    bool numbered = which->extension != 0 && to->history != NULL;
    data[0] = numbered ? 0x90 : 0x80;
    data[1] = kind;
    put32(data + 4, timestamp);
    put32(data + 8, repairs ? which->retransmission_ssrc : which->ssrc);
    if (!numbered) return HEADER;
    put32(data + HEADER, 0xBEDE0001); /* the one-byte form, one element of two bytes and a byte of padding */
    data[HEADER + 4] = (uint8_t)(which->extension << 4 | 1);
    put16(data + HEADER + 5, twcc_stamp(to->history, engine->now_us, size + NUMBERED - HEADER + OVERHEAD));
    data[HEADER + 7] = 0;
    return NUMBERED;
}

static void send_all(fp_engine *engine);

static bool may_send(fp_engine *engine, const lane *which) {
    const connection *to = &engine->connections[which->connection];
    if (to->protect == NULL || !to->nominated) return false;
    if (engine->pending_count == MOST_PENDING || engine->arena_used + LARGEST_DATAGRAM > ARENA_BYTES) send_all(engine);
    return true;
}

/* Seal what is at the arena's end, and put it in line for the end of the batch. */
static bool seal(fp_engine *engine, lane *which, int size) {
    connection *to = &engine->connections[which->connection];
    uint8_t *data = engine->arena + engine->arena_used;
    if (engine->srtp.protect(to->protect, data, &size)) {
        which->refused++;
        return false;
    }
    engine->arena_used += ((size_t)size + 15) & ~(size_t)15;
    int place = engine->pending_count++;
    engine->pendings[place] = (pending){.data = data, .size = size, .next = -1};
    line_up(engine, to, place, which->connection);
    return true;
}

static uint8_t *body_of(fp_engine *engine, int start) { return engine->arena + engine->arena_used + start; }

/* One packet for the first time, as this lane's subscriber knows it. */
static void emit(fp_engine *engine, lane *which, const kept *what, int codec) {
    if (!may_send(engine, which)) return;
    uint32_t timestamp = what->timestamp + which->timestamp_offset;
    int64_t sequence = what->sequence + which->offset;
    uint8_t *data = body_of(engine, 0);
    int start = head(engine, which, data, HEADER + what->size, (uint8_t)(what->marker << 7 | which->payload_type), timestamp, false);
    put16(data + 2, (uint16_t)sequence);
    memcpy(data + start, what->payload, what->size);
    bool newest = sequence > which->highest;
    if (codec == FP_VP8) renumber(which, data + start, what->size, newest);
    if (newest) which->highest = sequence, which->sent_us = engine->now_us;
    if (which->packets == 0 || (int32_t)(timestamp - which->timestamp) > 0) which->timestamp = timestamp;
    if (!seal(engine, which, start + what->size)) return;
    which->packets++;
    which->octets += what->size;
}

/* One packet again: on the retransmission stream (RFC 4588, section 4), or byte for byte as it was. */
static bool emit_again(fp_engine *engine, lane *which, const kept *what, int codec) {
    bool wrapped = which->retransmission_ssrc != 0 && which->retransmission_type != 0;
    /* With another transport-wide number it would be another packet under the same sequence number. */
    if ((!wrapped && which->extension != 0) || !may_send(engine, which)) return false;
    uint16_t sequence = (uint16_t)(what->sequence + which->offset);
    uint8_t *data = body_of(engine, 0), kind = wrapped ? which->retransmission_type : which->payload_type;
    int size = HEADER + what->size + (wrapped ? 2 : 0);
    int start = head(engine, which, data, size, (uint8_t)(what->marker << 7 | kind), what->timestamp + which->timestamp_offset, wrapped);
    put16(data + 2, wrapped ? ++which->retransmission_sequence : sequence);
    if (wrapped) put16(data + start, sequence), start += 2;
    memcpy(data + start, what->payload, what->size);
    if (codec == FP_VP8) renumber(which, data + start, what->size, false);
    return seal(engine, which, start + what->size);
}

bool forward_padding(fp_engine *engine, lane *which) {
    if (which->source == 0 || which->retransmission_ssrc == 0 || which->retransmission_type == 0) return false;
    if (engine->now_us >= engine->sources[which->source].until_us || !may_send(engine, which)) return false;
    uint8_t *data = body_of(engine, 0);
    int start = head(engine, which, data, HEADER + PADDING, which->retransmission_type, which->timestamp, true);
    data[0] |= 0x20;
    put16(data + 2, ++which->retransmission_sequence);
    memset(data + start, 0, PADDING - 1);
    data[start + PADDING - 1] = PADDING;
    return seal(engine, which, start + PADDING);
}

/* What has passed goes out with the rest of its batch, lane by lane: what a lane's subscriber needs (its SRTP context
 * above all) is looked for in memory once for a picture, and the picture leaves in one train. */
static void forward_ready(fp_engine *engine) {
    int count = engine->ready_count;
    for (int first = 0; first < count; first++) {
        uint32_t index = engine->ready[first].source;
        source *from = &engine->sources[index];
        for (int at = 0; index != 0 && at < from->lane_count; at++) {
            lane *which = &engine->lanes[from->lanes[at]];
            if (which->source != index) continue;
            for (int next = first; next < count; next++) {
                const kept *what = engine->ready[next].what;
                if (engine->ready[next].source != index || what->sequence < which->first) continue;
                if (!engine->ready[next].lost)
                    emit(engine, which, what, from->codec);
                else if (what->sequence + which->offset > which->highest)
                    which->highest = what->sequence + which->offset;
            }
        }
        for (int next = first; index != 0 && next < count; next++)
            if (engine->ready[next].source == index) engine->ready[next].source = 0;
    }
    engine->ready_count = 0;
}

static void fan_out(fp_engine *engine, source *from, kept *what, bool newest) {
    uint32_t index = (uint32_t)(from - engine->sources);
    bool lost = engine->lose_one_in > 0 && ++engine->fresh % (uint64_t)engine->lose_one_in == 0;
    engine->lost += lost;
    what->passed = true;
    for (int at = 0; newest && (what->key || from->codec == FP_OPUS) && at < from->lane_count; at++) {
        lane *which = &engine->lanes[from->lanes[at]];
        if (which->next != index) continue;
        forward_ready(engine); /* what came before is of what the lane carried then */
        enter(engine, which, index, what);
    }
    if (engine->ready_count == BATCH) forward_ready(engine);
    engine->ready[engine->ready_count++] = (passing){.source = index, .what = what, .lost = lost};
}

/* A place in the ring is about to be another packet's. */
static void let_go(fp_engine *engine, const kept *slot) {
    for (int at = 0; at < engine->ready_count; at++)
        if (engine->ready[at].what == slot) forward_ready(engine);
}

/* --- the way in ------------------------------------------------------------------------------------------ */

static fp_packet found_in(const source *from, const uint8_t *data, const packet *fresh, bool key) {
    int wide_size = 0, level_size = 0;
    const uint8_t *wide = rtp_extension(data, from->wide_id, &wide_size), *level = rtp_extension(data, from->level_id, &level_size);
    return (fp_packet){
        .timestamp = fresh->timestamp, .ssrc = fresh->ssrc, .marker = (uint8_t)(fresh->marker << 7), .key = key,
        .wide = wide && wide_size == 2 ? wide[0] << 8 | wide[1] : -1, .level = level && level_size ? level[0] : -1,
        .payload_at = (uint16_t)(fresh->payload - data), .payload_size = (uint16_t)fresh->size,
    };
}

void forward_packet(fp_engine *engine, source *from, const uint8_t *data, int size, const packet *came, uint32_t flags) {
    packet fresh = *came;
    bool passes = engine->now_us < from->until_us, repairs = flags & FP_REPAIR, holds = !repairs || fresh.size > 2;
    if (repairs && holds) { /* RFC 4588, section 4: the original number precedes the payload */
        fresh.sequence = (uint16_t)(fresh.payload[0] << 8 | fresh.payload[1]);
        fresh.payload += 2, fresh.size -= 2;
    }
    bool key = holds && rtp_is_key(from->codec, fresh.payload, fresh.size);
    fp_record record = {
        .kind = FP_PACKET, .id = from->id, .at_us = engine->now_us, .sequence = -1, .flags = flags, .size = (uint32_t)size,
        .packet = found_in(from, data, &fresh, key), .account = from->connection,
    };
    if (!holds) {
        engine_tell(engine, &record, data);
        return;
    }
    int64_t sequence = record.sequence = extend(from, fresh.sequence);
    kept *slot = &from->ring[sequence & (RING - 1)];
    bool newest = sequence > from->highest;
    if (passes) record.flags |= FP_PASSED;
    if (!newest && (slot->sequence == sequence || sequence <= from->highest - RING)) {
        from->repeated++;
        record.flags |= FP_REPEATED;
        engine_tell(engine, &record, data);
        return;
    }
    let_go(engine, slot);
    if (!keep(from, slot, sequence, &fresh, key)) return;
    /* Over more than the ring: whoever carries it goes on without a hole, at its next key frame. A subscriber's SRTP counts
     * by itself how often sixteen bits wrap (RFC 3711, section 3.3.1), and would lose count for good over one lost packet. */
    if (from->highest >= 0 && sequence - from->highest > RING) {
        forward_ready(engine);
        source_hush(engine, from);
    }
    if (newest) from->highest = sequence;
    from->packets++;
    from->octets += (uint64_t)fresh.size;
    if (passes) {
        from->hushed = false;
        fan_out(engine, from, slot, newest);
    } else {
        from->gated++;
        if (!from->hushed) source_hush(engine, from);
        from->hushed = true;
    }
    engine_tell(engine, &record, data);
}

/* Send what was held back since `first`, as if it came now. */
void forward_replay(fp_engine *engine, source *from, int64_t first) {
    if (first <= from->highest - RING) first = from->highest - RING + 1;
    if (from->highest < 0) return;
    from->hushed = false;
    for (int64_t sequence = first < 0 ? 0 : first; sequence <= from->highest; sequence++) {
        kept *slot = &from->ring[sequence & (RING - 1)];
        if (slot->sequence == sequence && !slot->passed) fan_out(engine, from, slot, true);
    }
}

bool forward_again(fp_engine *engine, lane *which, uint16_t number) {
    if (which->source == 0) return false;
    source *from = &engine->sources[which->source];
    if (engine->now_us >= from->until_us) return false;
    int64_t outgoing = which->highest - (uint16_t)((uint16_t)which->highest - number), sequence = outgoing - which->offset;
    if (sequence < which->first || sequence < 0) return false;
    const kept *slot = &from->ring[sequence & (RING - 1)];
    if (slot->sequence != sequence || !slot->passed || !emit_again(engine, which, slot, from->codec)) return false;
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

/* Send a train: `count` packets of one size, the last may be smaller. False: try again one by one. */
static bool send_train(fp_engine *engine, connection *to, struct msghdr *message, int count, int size) {
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {0};
    message->msg_control = NULL, message->msg_controllen = 0;
    if (count > 1) {
        message->msg_control = control.bytes, message->msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(message);
        uint16_t segment = (uint16_t)size;
        header->cmsg_level = IPPROTO_UDP, header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(header), &segment, sizeof segment);
    }
    if (sendmsg(engine->sockets[to->to.socket], message, MSG_DONTWAIT) >= 0) return true;
    if (count > 1 && (errno == EIO || errno == EINVAL || errno == EMSGSIZE || errno == EOPNOTSUPP)) return false;
    to->refused += (uint64_t)count;
    return true;
}

static void flush_connection(fp_engine *engine, connection *to) {
    struct sockaddr_storage name;
    struct iovec parts[MOST_SEGMENTS];
    struct msghdr message = {.msg_name = &name, .msg_namelen = to_sockaddr(engine, &to->to, &name), .msg_iov = parts};
    int most = engine->no_trains || to->no_trains ? 1 : MOST_SEGMENTS;
    for (int at = to->pending_first; at >= 0;) {
        int count = 0, size = engine->pendings[at].size, total = 0, next = at;
        while (next >= 0 && count < most) {
            const pending *each = &engine->pendings[next];
            if (each->size > size || total + each->size > MOST_BYTES) break;
            parts[count++] = (struct iovec){.iov_base = each->data, .iov_len = (size_t)each->size};
            total += each->size;
            next = each->next;
            if (each->size < size) break;
        }
        message.msg_iovlen = (size_t)count;
        if (send_train(engine, to, &message, count, size)) {
            at = next;
        } else {
            /* Too large a segment for one viewer's path (EINVAL; EMSGSIZE in newer kernels) is that viewer's affair. */
            most = 1;
            *(errno == EIO || errno == EOPNOTSUPP ? &engine->no_trains : &to->no_trains) = true;
        }
    }
    to->pending_first = to->pending_last = -1;
}

static void send_all(fp_engine *engine) {
    for (int at = 0; at < engine->touched_count; at++) flush_connection(engine, &engine->connections[engine->touched[at]]);
    engine->touched_count = engine->pending_count = 0;
    engine->arena_used = 0;
}

void forward_flush(fp_engine *engine) {
    forward_ready(engine);
    send_all(engine);
}
