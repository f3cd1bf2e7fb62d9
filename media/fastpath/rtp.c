/* RTP arithmetic: bytes in, numbers out. Packets come from hostile networks: nothing here reads past `size`.
 *
 * RTP is RFC 3550, VP8 RFC 7741, H.264 RFC 6184, VP9 RFC 9628, AV1 the RTP payload format of AOMedia. media/rtp.py
 * and media/codecs.py say the same in Python, and tests hold the two against each other.
 */
#include "internal.h"

#include <string.h>

static uint32_t word(const uint8_t *at) { return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }
static int half(const uint8_t *at) { return at[0] << 8 | at[1]; }

bool rtp_parse(const uint8_t *data, int size, packet *out) {
    if (size < HEADER || data[0] >> 6 != 2) return false;
    int start = HEADER + 4 * (data[0] & 0x0F), end = size;
    if (data[0] & 0x10) {
        if (start + 4 > end) return false;
        start += 4 + 4 * half(data + start + 2);
    }
    if (data[0] & 0x20 && end > start) {
        int padding = data[end - 1];
        if (padding == 0) return false;
        end -= padding;
    }
    if (start > end) return false;
    *out = (packet){
        .payload = data + start, .size = end - start, .sequence = (uint16_t)half(data + 2), .timestamp = word(data + 4),
        .ssrc = word(data + 8), .payload_type = data[1] & 0x7F, .marker = data[1] >> 7,
    };
    return true;
}

const uint8_t *rtp_extension(const uint8_t *data, int wanted, int *length) {
    if (wanted == 0 || !(data[0] & 0x10)) return NULL;
    int at = HEADER + 4 * (data[0] & 0x0F), profile = half(data + at), end = at + 4 + 4 * half(data + at + 2);
    bool one_byte = profile == 0xBEDE;
    if (!one_byte && (profile & 0xFFF0) != 0x1000) return NULL;
    for (at += 4; at < end; at += *length) {
        int id = data[at];
        *length = 1;
        if (id == 0) continue; /* padding */
        if (one_byte) {
            *length = (id & 0x0F) + 1, id >>= 4, at += 1;
            if (id == 15) return NULL;
        } else {
            if (at + 1 >= end) return NULL;
            *length = data[at + 1], at += 2;
        }
        if (at + *length > end) return NULL;
        if (id == wanted) return data + at;
    }
    return NULL;
}

int vp8_widen(const uint8_t *payload, int size, uint8_t *into) {
    if (size > 2 && payload[0] & 0x80 && payload[1] & 0x80 && !(payload[2] & 0x80)) {
        into[0] = payload[0], into[1] = payload[1], into[2] = 0x80;
        memcpy(into + 3, payload + 2, (size_t)size - 2);
        return size + 1;
    }
    memcpy(into, payload, (size_t)size);
    return size;
}

void vp8_parse(const uint8_t *payload, int size, vp8_numbers *out) {
    *out = (vp8_numbers){0};
    if (size < 2 || !(payload[0] & 0x80)) return;
    int flags = payload[1], at = 2;
    if (flags & 0x80) {
        if (size < at + 2) return;
        out->picture_at = at;
        out->picture = (uint16_t)(half(payload + at) & 0x7FFF);
        at += 2;
    }
    if (flags & 0x40 && at < size) {
        out->level_at = at;
        out->level = payload[at];
    }
}

static bool vp8_is_key(const uint8_t *payload, int size) {
    if (size < 2 || (payload[0] & 0x17) != 0x10) return false; /* S set, partition 0 */
    int at = 1;
    if (payload[0] & 0x80) {
        int flags = payload[1];
        at = 2;
        if (flags & 0x80) {
            if (at >= size) return false;
            at += payload[at] & 0x80 ? 2 : 1;
        }
        at += (flags & 0x40 ? 1 : 0) + (flags & 0x30 ? 1 : 0);
    }
    return at < size && !(payload[at] & 0x01);
}

static bool nal_is_key(uint8_t first) { return (first & 0x1F) == 5 || (first & 0x1F) == 7; }

static bool h264_is_key(const uint8_t *payload, int size) {
    if (size < 1) return false;
    int kind = payload[0] & 0x1F;
    if (kind == 28) return size > 1 && payload[1] & 0x80 && nal_is_key(payload[1]); /* FU-A */
    if (kind != 24) return nal_is_key(payload[0]);                                 /* not STAP-A */
    for (int at = 1; at + 2 < size; at += 2 + half(payload + at))
        if (nal_is_key(payload[at + 2])) return true;
    return false;
}

static bool vp9_is_key(const uint8_t *payload, int size) {
    if (size < 1 || payload[0] & 0x40 || !(payload[0] & 0x08)) return false; /* P clear, B set */
    if (!(payload[0] & 0x20)) return true;
    int at = 1;
    if (payload[0] & 0x80) {
        if (at >= size) return false;
        at += payload[at] & 0x80 ? 2 : 1;
    }
    return at < size && !(payload[at] >> 1 & 0x07); /* the lowest spatial layer */
}

/* A number of at most eight octets; moves `at` behind it. */
static uint64_t leb128(const uint8_t *data, int size, int *at) {
    uint64_t value = 0;
    for (int place = 0; place < 8 && *at < size; place++) {
        value |= (uint64_t)(data[*at] & 0x7F) << (7 * place);
        if (!(data[(*at)++] & 0x80)) break;
    }
    return value;
}

/* N: a coded video sequence begins; or the first OBU but a temporal delimiter is a sequence header. */
static bool av1_is_key(const uint8_t *payload, int size) {
    enum { SEQUENCE_HEADER = 1, TEMPORAL_DELIMITER = 2 };
    if (size < 2 || payload[0] & 0x80) return false;
    if (payload[0] & 0x08) return true;
    int at = 1;
    bool single = (payload[0] & 0x30) == 0x10;
    while (at < size) {
        uint64_t length = single ? 0 : leb128(payload, size, &at);
        int kind = at < size ? payload[at] >> 3 & 0x0F : 0;
        if (kind != TEMPORAL_DELIMITER || single) return kind == SEQUENCE_HEADER;
        if (length > (uint64_t)(size - at)) return false;
        at += (int)length;
    }
    return false;
}

bool rtp_is_key(int codec, const uint8_t *payload, int size) {
    switch (codec) {
    case FP_VP8: return vp8_is_key(payload, size);
    case FP_H264: return h264_is_key(payload, size);
    case FP_VP9: return vp9_is_key(payload, size);
    case FP_AV1: return av1_is_key(payload, size);
    default: return false;
    }
}
