/* See twcc.h. */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC visibility push(default)
#include "twcc.h"
#pragma GCC visibility pop

enum {
    RING = 1 << 12, /* a second and more of the fullest room */
    FCI = 8,        /* behind the two SSRCs */
    CHUNKS = FCI + 8,
    TICK_US = 250,
    REFERENCE_US = 64000,
    BURST_US = 5000, /* what is sent within so long is one group (draft-ietf-rmcat-gcc-02 section 5.2) */
    LONGEST_US = 5000000,
    SHUFFLED_US = 500000,
    STEPS = sizeof(((twcc_report *)0)->steps) / sizeof(twcc_step)
};

enum { NEVER, UNDER_WAY, LOST, CAME };

typedef struct {
    int64_t sent_us;
    uint16_t size;
    uint8_t state, probe;
} record;

typedef struct {
    int64_t first_us, sent_us, arrived_us; /* first and last sent, last arrived */
    uint32_t octets;                       /* 0: there is none */
} group;

struct twcc {
    uint64_t next, settled;
    record ring[RING];
    group now, before;
    bool has_reference;
    uint32_t reference; /* of the latest feedback: 24 bit, and the same unwrapped */
    int64_t base;
    uint8_t probing, watched;
    uint32_t probe_packets, probe_octets;
    int64_t probe_sent[2], probe_arrived[2];
};

twcc *twcc_new(void) {
    twcc *of = calloc(1, sizeof *of);
    if (of != NULL) of->next = 1 << 16; /* the ring begins empty, and number 0 comes first */
    return of;
}

void twcc_free(twcc *of) { free(of); }

uint16_t twcc_stamp(twcc *of, int64_t now_us, int size) {
    of->ring[of->next % RING] = (record){.sent_us = now_us, .size = (uint16_t)size, .state = UNDER_WAY, .probe = of->probing};
    return (uint16_t)of->next++;
}

void twcc_probe(twcc *of, int probe) {
    of->probing = (uint8_t)probe;
    if (of->probing == 0 || of->probing == of->watched) return;
    of->watched = of->probing;
    of->probe_packets = of->probe_octets = 0;
    memset(of->probe_sent, 0, sizeof of->probe_sent);
    memset(of->probe_arrived, 0, sizeof of->probe_arrived);
}

void twcc_settle(twcc *of) { of->settled = of->next; }

/* --- reading ------------------------------------------------------------------------------------------- */

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get24(const uint8_t *at) { return (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2]; }

/* How many packets a chunk tells of. */
static int span(uint16_t chunk) { return chunk & 0x8000 ? (chunk & 0x4000 ? 7 : 14) : chunk & 0x1FFF; }

/* What it says of the one at `place`: 0 missing, 1 or 2 bytes of delta, 3 nothing that there is. */
static int symbol(uint16_t chunk, int place) {
    if (!(chunk & 0x8000)) return chunk >> 13 & 3;
    return chunk & 0x4000 ? chunk >> (12 - 2 * place) & 3 : chunk >> (13 - place) & 1;
}

/* Where the deltas begin, if everything is there; else 0. */
static int deltas_of(const uint8_t *body, int size, int count) {
    int at = CHUNKS, told = 0, needed = 0;
    for (; told < count; at += 2) {
        if (at + 2 > size) return 0;
        uint16_t chunk = get16(body + at);
        int most = span(chunk);
        if (most == 0) return 0;
        if (most > count - told) most = count - told;
        for (int place = 0; place < most; place++) {
            int is = symbol(chunk, place);
            if (is == 3) return 0;
            needed += is;
        }
        told += most;
    }
    return at + needed <= size ? at : 0;
}

static int64_t unwrap(twcc *of, uint32_t reference) {
    if (!of->has_reference) {
        of->has_reference = true;
        of->base = reference;
    } else {
        int32_t by = (int32_t)((reference - of->reference) << 8) >> 8;
        of->base += by;
    }
    of->reference = reference;
    return of->base * REFERENCE_US;
}

/* --- what became of it ----------------------------------------------------------------------------------- */

static int32_t within(int64_t us) { return us < 0 ? 0 : us > LONGEST_US ? LONGEST_US : (int32_t)us; }

static void take(twcc *of, const record *is, int64_t arrived_us, twcc_report *said) {
    group *now = &of->now, *before = &of->before;
    if (now->octets != 0) {
        if (is->sent_us < now->first_us) return; /* overtaken: it says nothing of a queue */
        if (is->sent_us - now->first_us <= BURST_US || said->count == STEPS) {
            now->sent_us = is->sent_us > now->sent_us ? is->sent_us : now->sent_us;
            now->arrived_us = arrived_us > now->arrived_us ? arrived_us : now->arrived_us;
            now->octets += is->size;
            return;
        }
        if (before->octets != 0) {
            /* Overtaken as a whole: if its step were left out, what it was early by would count as a queue. */
            if (now->arrived_us < before->arrived_us && before->arrived_us - now->arrived_us < SHUFFLED_US)
                now->arrived_us = before->arrived_us;
            if (now->arrived_us >= before->arrived_us)
                said->steps[said->count++] = (twcc_step){
                    within(now->sent_us - before->sent_us), within(now->arrived_us - before->arrived_us), now->octets};
        }
        *before = *now;
    }
    *now = (group){is->sent_us, is->sent_us, arrived_us, is->size};
}

static void probed(twcc *of, const record *is, int64_t arrived_us) {
    if (of->probe_packets++ == 0) {
        of->probe_sent[0] = of->probe_sent[1] = is->sent_us;
        of->probe_arrived[0] = of->probe_arrived[1] = arrived_us;
        return;
    }
    of->probe_octets += is->size;
    if (is->sent_us > of->probe_sent[1]) of->probe_sent[1] = is->sent_us;
    if (arrived_us > of->probe_arrived[1]) of->probe_arrived[1] = arrived_us;
}

static void came(twcc *of, uint64_t number, int64_t arrived_us, twcc_report *said) {
    record *is = &of->ring[number % RING];
    if (is->state == LOST && number >= of->settled) said->recovered++;
    is->state = CAME;
    said->received++;
    said->octets += is->size;
    if (said->received == 1 || is->sent_us >= said->sent_us) {
        said->sent_us = is->sent_us;
        said->arrived_us = arrived_us;
    }
    take(of, is, arrived_us, said);
    if (is->probe != 0 && is->probe == of->watched) probed(of, is, arrived_us);
}

int twcc_feedback(twcc *of, const uint8_t *body, int size, twcc_report *said) {
    memset(said, 0, sizeof *said);
    if (size < CHUNKS) return 0;
    int count = get16(body + FCI + 2);
    if (count == 0 || count > RING) return 0;
    int at = deltas_of(body, size, count);
    if (at == 0) return 0;
    const uint8_t *delta = body + at;
    int64_t clock = unwrap(of, get24(body + FCI + 4));
    uint64_t number = of->next - (uint16_t)(of->next - get16(body + FCI));
    for (int told = 0, chunk_at = CHUNKS; told < count; chunk_at += 2) {
        uint16_t chunk = get16(body + chunk_at);
        int most = span(chunk);
        for (int place = 0; place < most && told < count; place++, told++, number++) {
            int is = symbol(chunk, place);
            if (is == 1) clock += *delta * TICK_US;
            if (is == 2) clock += (int16_t)get16(delta) * TICK_US;
            delta += is;
            if (number >= of->next || of->next - number > RING) continue; /* nobody sent it, or long ago */
            record *known = &of->ring[number % RING];
            if (is == 0 && known->state == UNDER_WAY) {
                known->state = LOST;
                said->lost += number >= of->settled;
            } else if (is != 0 && (known->state == UNDER_WAY || known->state == LOST)) {
                came(of, number, clock, said);
            }
        }
    }
    said->probe_packets = of->probe_packets;
    said->probe_octets = of->probe_octets;
    said->probe_sent_us = within(of->probe_sent[1] - of->probe_sent[0]);
    said->probe_arrived_us = within(of->probe_arrived[1] - of->probe_arrived[0]);
    return 1;
}
