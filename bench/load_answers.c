/* What receiving clients of the load say back, as browsers do: receiver reports once a second (RFC 3550), when each
 * numbered packet came ten times a second (draft-holmer-rmcat-transport-wide-cc-extensions-01), and a few NACKs (RFC
 * 4585), of packets that had come: what is asked for is sent, and nothing has to be lost for it.
 *
 * A hostile one also goes on with NACKs, PLIs and the same STUN check, whatever it is told.
 */
#include "load_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { SOURCES = 256, REMEMBERED = 2048, MOST_SAID = 400, TICK_US = 250, BLOCKS = 31, OURS = 1, NACK_EVERY = 300 };
static const int64_t FEEDBACK_NS = 100000000, REPORT_NS = 1000000000, PESTER_NS = 10000000;

typedef struct {
    uint32_t ssrc, base, highest, received; /* numbers are extended; ssrc 0: nobody */
    uint32_t expected_before, received_before;
    uint32_t report; /* the middle of the latest sender report, and when it came */
    int64_t report_ns;
} source;

typedef struct {
    void *context;
    int socket, number_id;
    struct sockaddr_in to;
    uint64_t repairs[2]; /* payload types */
    source sources[SOURCES];
    struct { uint32_t number; int64_t came_ns; } arrivals[REMEMBERED];
    uint32_t next, highest; /* transport-wide, extended; 0: none came yet */
    uint8_t feedbacks;
    uint32_t picture_ssrc;
    uint16_t picture;
    int pictures; /* packets of pictures since the last NACK */
    int64_t feedback_ns, report_ns, pester_ns;
    int check_size;
    uint8_t check[256];
} client;

static client *clients[MOST_STREAMS];

int load_answers(int sink, void *context, int socket, const char *host, int port, int number_id) {
    client *fresh = clients[sink] = calloc(1, sizeof *fresh);
    if (!fresh) return -1;
    fresh->context = context, fresh->socket = socket, fresh->number_id = number_id;
    /* Spread, the same way in every run. */
    fresh->feedback_ns = sink * 7919 % 1000 * (FEEDBACK_NS / 1000), fresh->report_ns = 10 * fresh->feedback_ns;
    return to_address(&fresh->to, host, port);
}

void load_repairs(int sink, int payload_type) { clients[sink]->repairs[payload_type / 64] |= 1ull << payload_type % 64; }

int load_hostile(int sink, const uint8_t *check, int size) {
    if (size > (int)sizeof clients[sink]->check) return -1;
    memcpy(clients[sink]->check, check, (size_t)size);
    clients[sink]->check_size = size;
    return 0;
}

void forget_answers(void) {
    for (int at = 0; at < MOST_STREAMS; at++) free(clients[at]), clients[at] = NULL;
}

static source *source_of(client *of, uint32_t ssrc, int is_new_taken) {
    for (uint32_t at = ssrc * 2654435761u >> 24, tries = 0; tries < SOURCES; at = (at + 1) % SOURCES, tries++) {
        if (of->sources[at].ssrc == ssrc) return &of->sources[at];
        if (!of->sources[at].ssrc) {
            if (!is_new_taken) return NULL;
            of->sources[at].ssrc = ssrc;
            return &of->sources[at];
        }
    }
    return NULL;
}

static void note_number(client *of, const uint8_t *data, int size, int64_t came_ns) {
    if (!of->number_id || !(data[0] & 0x10) || size < HEADER + 8 || data[HEADER] != 0xBE || data[HEADER + 1] != 0xDE) return;
    const uint8_t *at = data + HEADER + 4, *end = at + 4 * (data[HEADER + 2] << 8 | data[HEADER + 3]);
    if (end > data + size) return;
    for (; at < end && *at; at += 2 + (*at & 15)) {
        if (*at >> 4 != of->number_id || (*at & 15) != 1) continue;
        uint16_t number = (uint16_t)(at[1] << 8 | at[2]);
        if (!of->highest) of->highest = 0x10000u + number - 1u, of->next = of->highest + 1;
        uint32_t extended = of->highest + (uint32_t)(int16_t)(number - (uint16_t)of->highest);
        if ((int32_t)(extended - of->highest) > 0) of->highest = extended;
        of->arrivals[extended % REMEMBERED].number = extended, of->arrivals[extended % REMEMBERED].came_ns = came_ns;
        return;
    }
}

int take_note(int sink, const uint8_t *data, int size, int64_t came_ns) {
    client *of = clients[sink];
    if (!of) return 1;
    note_number(of, data, size, came_ns);
    int payload_type = data[1] & 127;
    if (of->repairs[payload_type / 64] >> payload_type % 64 & 1) return 0;
    uint16_t sequence = (uint16_t)(data[2] << 8 | data[3]);
    source *from = source_of(of, word_at(data + 8), 1);
    if (!from) return 1;
    if (!from->received) from->base = 0x10000u + sequence, from->highest = from->base - 1;
    int16_t step = (int16_t)(sequence - (uint16_t)from->highest);
    if (step <= 0) return 0;
    from->highest += (uint32_t)step, from->received++;
    if (size > PICTURE_BYTES / 2) of->picture_ssrc = from->ssrc, of->picture = sequence, of->pictures++;
    return 1;
}

void take_compound(int sink, void *context, uint8_t *data, int size, int64_t came_ns) {
    client *of = clients[sink];
    if (!of || unprotect_rtcp(context, data, &size)) return;
    if (size < 28 || data[1] != 200) return;
    source *from = source_of(of, word_at(data + 4), 0);
    if (from) from->report = word_at(data + 10), from->report_ns = came_ns;
}

static void say(client *of, uint8_t *data, int size) {
    if (!protect_rtcp(of->context, data, &size))
        sendto(of->socket, data, (size_t)size, MSG_DONTWAIT, (struct sockaddr *)&of->to, sizeof of->to);
}

static int head(uint8_t *data, int format, int kind, int words) {
    data[0] = (uint8_t)(0x80 | format), data[1] = (uint8_t)kind, data[2] = (uint8_t)(words >> 8), data[3] = (uint8_t)words;
    put_word(data + 4, OURS);
    return 8;
}

static void report(client *of, int64_t now) {
    uint8_t data[LARGEST];
    int size = 0, begin = 0, blocks = 0;
    for (int at = 0; at < SOURCES; at++) {
        source *from = &of->sources[at];
        if (!from->received) continue;
        if (!blocks) begin = size, size += 8;
        uint32_t expected = from->highest - from->base + 1, due = expected - from->expected_before, came = from->received - from->received_before;
        uint32_t lost = expected - from->received, fraction = due > came ? 256 * (due - came) / due : 0;
        from->expected_before = expected, from->received_before = from->received;
        put_word(data + size, from->ssrc);
        put_word(data + size + 4, (fraction > 255 ? 255 : fraction) << 24 | (lost & 0xFFFFFF));
        put_word(data + size + 8, from->highest - 0x10000u);
        put_word(data + size + 12, 0); /* jitter: not measured */
        put_word(data + size + 16, from->report);
        put_word(data + size + 20, from->report ? (uint32_t)((now - from->report_ns) * 65536 / 1000000000) : 0);
        size += 24;
        if (++blocks == BLOCKS || size > 1200) head(data + begin, blocks, 201, (size - begin) / 4 - 1), blocks = 0;
        if (size > 1200) break;
    }
    if (blocks) head(data + begin, blocks, 201, (size - begin) / 4 - 1);
    if (!size) return;
    say(of, data, size);
    counts.reports++;
}

/* Two bits for each packet: runs, or seven to a word. */
static int put_chunks(uint8_t *data, const uint8_t *symbols, int count) {
    int size = 0;
    for (int at = 0, run; at < count;) {
        for (run = 1; at + run < count && symbols[at + run] == symbols[at];) run++;
        int chunk = symbols[at] << 13 | run;
        if (run < 7) {
            chunk = 0xC000;
            for (int place = 0; place < 7 && at + place < count; place++) chunk |= symbols[at + place] << (12 - 2 * place);
            run = 7;
        }
        data[size++] = (uint8_t)(chunk >> 8), data[size++] = (uint8_t)chunk;
        at += run;
    }
    return size;
}

static void feed_back(client *of) {
    if (of->highest - of->next + 1 > REMEMBERED) of->next = of->highest + 1 - REMEMBERED;
    while ((int32_t)(of->highest - of->next) >= 0) {
        uint8_t data[LARGEST] = {0}, symbols[MOST_SAID], deltas[2 * MOST_SAID];
        int count = 0, size = 0, said = 0;
        int64_t clock = 0, reference = 0;
        for (; count < MOST_SAID && (int32_t)(of->highest - of->next - (uint32_t)count) >= 0; count++) {
            uint32_t number = of->next + (uint32_t)count;
            symbols[count] = 0;
            if (of->arrivals[number % REMEMBERED].number != number) continue;
            int64_t came = of->arrivals[number % REMEMBERED].came_ns / (1000 * TICK_US);
            if (!said++) reference = came / 256, clock = reference * 256;
            int64_t delta = came - clock < -0x8000 ? -0x8000 : came - clock > 0x7FFF ? 0x7FFF : came - clock;
            clock += delta;
            symbols[count] = delta < 0 || delta > 255 ? 2 : 1;
            if (symbols[count] == 2) deltas[size++] = (uint8_t)((uint16_t)delta >> 8);
            deltas[size++] = (uint8_t)delta;
        }
        uint32_t base = of->next;
        of->next += (uint32_t)count;
        if (!said) continue;
        int empty = head(data, 0, 201, 1); /* an empty receiver report goes first (RFC 3550 section 6.1) */
        uint8_t *body = data + empty;
        put_word(body + 8, of->picture_ssrc);
        put_word(body + 12, base << 16 | (uint32_t)count);
        put_word(body + 16, (uint32_t)reference << 8 | of->feedbacks++);
        int chunks = put_chunks(body + 20, symbols, count);
        memcpy(body + 20 + chunks, deltas, (size_t)size);
        int whole = 20 + chunks + size, padding = -whole & 3;
        if (padding) body[whole + padding - 1] = (uint8_t)padding;
        head(body, 15, 205, (whole + padding) / 4 - 1);
        if (padding) body[0] |= 0x20;
        say(of, data, empty + whole + padding);
        counts.feedbacks++;
    }
}

static int put_nack(client *of, uint8_t *data, uint16_t first, uint16_t more) {
    head(data, 1, 205, 3);
    put_word(data + 8, of->picture_ssrc);
    put_word(data + 12, (uint32_t)first << 16 | more);
    return 16;
}

static void pester(client *of) {
    uint8_t data[LARGEST];
    int size = head(data, 0, 201, 1);
    size += put_nack(of, data + size, (uint16_t)(of->picture - 16), 0xFFFF);
    head(data + size, 1, 206, 2); /* PLI (RFC 4585 section 6.3.1) */
    put_word(data + size + 8, of->picture_ssrc);
    if (of->picture_ssrc) say(of, data, size + 12);
    sendto(of->socket, of->check, (size_t)of->check_size, MSG_DONTWAIT, (struct sockaddr *)&of->to, sizeof of->to);
}

static int is_due(int64_t *due, int64_t now, int64_t every) {
    if (*due < every) *due += now; /* the first time it is a phase */
    if (*due > now) return 0;
    *due = now - *due > every ? now + every : *due + every;
    return 1;
}

void answer(int sink, int64_t now) {
    client *of = clients[sink];
    if (!of || !of->to.sin_port) return;
    if (is_due(&of->feedback_ns, now, FEEDBACK_NS) && of->highest) feed_back(of);
    if (is_due(&of->report_ns, now, REPORT_NS)) report(of, now);
    if (of->pictures >= NACK_EVERY) {
        of->pictures = 0;
        uint8_t data[LARGEST];
        int size = head(data, 0, 201, 1);
        say(of, data, size + put_nack(of, data + size, (uint16_t)(of->picture - 2), 0));
        counts.nacks++;
    }
    if (of->check_size && of->picture_ssrc && is_due(&of->pester_ns, now, PESTER_NS)) pester(of);
}
