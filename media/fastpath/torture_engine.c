/* Malformed packets and careless callers, under the sanitizers: `torture SEED ROUNDS`.
 *
 * Built with -fsanitize=address,undefined, and once more with -fsanitize=thread. SRTP is a stand-in that copies
 * and checks a tag, so that mutated packets get past it. Ends with 0 and a line of counts, or by a sanitizer.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "twcc.h"
#include "fastpath.h"

enum { PEOPLE = 6, TAG = 8, MOST = 1600, STREAMS = 64, WINDOW = 4096 };

static uint64_t state;

static uint32_t chance(uint32_t below) { /* xorshift64* */
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 33) % below;
}

/* The context is a byte that has to outlive its connection: a use after close is a use after free. */
static int seal_rtcp(void *context, void *data, int *size) {
    memset((uint8_t *)data + *size, *(uint8_t *)context, TAG);
    *size += TAG;
    return 0;
}

/* What was sealed under one SSRC, by number with its rollovers: the same number with other bytes gives a key away. */
typedef struct {
    uint32_t ssrc;
    bool used;
    int64_t highest, numbers[WINDOW];
    uint64_t contents[WINDOW];
} sealed;

static sealed books[PEOPLE][STREAMS];
static uint64_t again;

static int seal(void *context, void *data, int *size) {
    const uint8_t *bytes = data;
    uint32_t ssrc = (uint32_t)bytes[8] << 24 | (uint32_t)bytes[9] << 16 | (uint32_t)bytes[10] << 8 | bytes[11];
    uint16_t sequence = (uint16_t)(bytes[2] << 8 | bytes[3]);
    uint64_t content = 0xCBF29CE484222325u;
    for (int at = 0; at < *size; at++) content = (content ^ bytes[at]) * 0x100000001B3u;
    sealed *book = books[*(uint8_t *)context - 1];
    for (int at = 0; book->used && book->ssrc != ssrc; at++, book++)
        if (at == STREAMS - 1) abort();
    if (!book->used) {
        *book = (sealed){.ssrc = ssrc, .used = true, .highest = sequence};
        memset(book->numbers, -1, sizeof book->numbers);
    }
    int64_t number = book->highest + (int16_t)(sequence - (uint16_t)book->highest);
    if (number <= book->highest - WINDOW) return 1; /* as SRTP does with what is too old to be known */
    if (number > book->highest) book->highest = number;
    int place = (int)(number & (WINDOW - 1));
    if (book->numbers[place] == number) {
        if (book->contents[place] != content) abort();
        again++;
    }
    book->numbers[place] = number, book->contents[place] = content;
    return seal_rtcp(context, data, size);
}

static int open_sealed(void *context, void *data, int *size) {
    if (*size < TAG + 1 || ((uint8_t *)data)[*size - 1] != *(uint8_t *)context) return 1;
    *size -= TAG;
    return 0;
}

typedef struct {
    int socket;
    fp_address address;
    uint32_t connection, sources[4], lanes[8];
    uint8_t *context;
} person;

static fp_engine *engine;
static struct sockaddr_in node;
static person people[PEOPLE];
static uint64_t records, sent;

static void leave(person *who) {
    if (who->connection == 0) return;
    fp_close(engine, who->connection);
    memset(who->context, 0xEE, 1);
    free(who->context);
    uint32_t former = who->connection;
    who->connection = 0;
    uint8_t byte = 0;
    fp_send_rtcp(engine, former, (uint8_t[]){0x80, 200, 0, 1, 0, 0, 0, 0}, 8);
    if (fp_secure(engine, former, &byte, &byte) != FP_GONE) abort();
}

static void join(person *who, int number) {
    leave(who);
    who->context = malloc(1);
    *who->context = (uint8_t)(number + 1);
    memset(books[number], 0, sizeof books[number]); /* another key */
    who->connection = fp_open(engine);
    fp_nominate(engine, who->connection, &who->address);
    fp_secure(engine, who->connection, who->context, who->context);
    for (int at = 0; at < 4; at++) {
        who->sources[at] = fp_source(engine, who->connection, (int)chance(5), 90000, chance(4) ? INT64_MAX : 0);
        fp_name(engine, who->sources[at], (uint32_t)(100 + at), 0);
        if (chance(2)) fp_name(engine, who->sources[at], (uint32_t)(200 + at), 1);
        fp_read(engine, who->sources[at], (int)chance(16), (int)chance(16));
    }
    for (int at = 0; at < 8; at++)
        who->lanes[at] = fp_lane(engine, who->connection, 1000u * (uint32_t)number + (uint32_t)at, chance(2) ? 9000 + (uint32_t)at : 0);
}

static int some_rtp(uint8_t *data) {
    int size = 12 + (int)chance(60);
    if (chance(20) == 0) size = (int)chance(MOST - TAG);
    for (int at = 0; at < size; at++) data[at] = (uint8_t)chance(256);
    if (size < 12) return size;
    data[0] = (uint8_t)(0x80 | chance(64));
    data[1] = (uint8_t)chance(192);
    if (chance(8) == 0) data[1] = (uint8_t)(192 + chance(32));
    uint32_t ssrc = htonl((chance(2) ? 100 : 200) + chance(chance(10) ? 4 : 60));
    static uint16_t sequences[256];
    uint16_t sequence = sequences[ssrc >> 24] = (uint16_t)(sequences[ssrc >> 24] + chance(chance(50) ? 3 : 2000));
    memcpy(data + 8, &ssrc, 4);
    if (chance(4) == 0) sequence = (uint16_t)(sequence - chance(6)); /* overtaken, or twice with another content */
    data[2] = (uint8_t)(sequence >> 8), data[3] = (uint8_t)sequence;
    if (chance(3)) data[0] = 0x80;
    if (size > 30 && chance(4) == 0) { /* a header extension that may be sound */
        data[0] = 0x90;
        data[12] = chance(3) ? 0xBE : 0x10, data[13] = data[12] == 0xBE ? 0xDE : 0, data[14] = 0, data[15] = (uint8_t)chance(6);
    }
    return size;
}

static void hear(person *who, int number) {
    uint8_t data[MOST + TAG];
    int size = some_rtp(data);
    if (chance(10) == 0) data[0] = (uint8_t)chance(256);
    memset(data + size, chance(30) ? number + 1 : 0, TAG);
    sendto(who->socket, data, (size_t)(size + TAG), 0, (struct sockaddr *)&node, sizeof node);
    sent++;
}

/* What each lane carries, carried on under other types, and what it has just sent asked for again. */
static void retype(person *who) {
    for (int at = 0; at < 8; at++) {
        fp_counters now;
        if (fp_lane_counters(engine, who->lanes[at], &now) != FP_OK || now.source == 0) continue;
        uint8_t type = (uint8_t)(96 + chance(2)), repairs = (uint8_t)(chance(4) ? 0 : 98), extension = (uint8_t)(chance(3) ? 0 : 3);
        fp_carry(engine, who->lanes[at], &(fp_wish){now.source, chance(9), 0, 0, type, repairs, extension, 0});
        uint16_t numbers[32];
        for (int back = 0; back < 32; back++) numbers[back] = (uint16_t)(now.highest - back);
        fp_resend(engine, who->lanes[at], numbers, 32);
    }
}

static void carelessly(person *who) {
    person *other = &people[chance(PEOPLE)];
    uint32_t source = chance(6) ? other->sources[chance(4)] : chance(UINT32_MAX), lane = chance(9) ? who->lanes[chance(8)] : chance(UINT32_MAX);
    fp_counters counters;
    twcc_report report;
    uint16_t numbers[64];
    uint8_t data[MOST + TAG];
    fp_address somewhere = {.port = (uint16_t)chance(65536), .socket = (uint16_t)chance(2)};
    bool known = fp_lane_counters(engine, lane, &counters) == FP_OK && chance(8);
    for (int at = 0; at < 64; at++) numbers[at] = (uint16_t)(known ? counters.highest - chance(40) : chance(65536));
    switch (chance(18)) {
    case 0: fp_carry(engine, lane, &(fp_wish){chance(4) ? source : 0, chance(9), chance(2) ? source : 0, chance(UINT32_MAX), (uint8_t)(96 + chance(2)), (uint8_t)(chance(2) ? 98 + chance(2) : 0), (uint8_t)(chance(2) ? chance(16) : 0), 0}); break;
    case 13: fp_number(engine, who->connection), fp_pad(engine, lane), fp_probe(engine, who->connection, (int)chance(3)); break;
    case 14: fp_feedback(engine, who->connection, data, some_rtp(data), &report); break;
    case 17: retype(who); break;
    case 1: case 15: fp_resend(engine, lane, numbers, (int)chance(64)); break;
    case 2: fp_gate(engine, source, chance(4) ? INT64_MAX : (int64_t)chance(2), (int64_t)chance(200000) - 1); break;
    case 3: fp_inject(engine, who->connection, data, some_rtp(data)); break;
    case 4: fp_connection_counters(engine, who->connection, &counters); break;
    case 5: fp_source_counters(engine, source, &counters); break;
    case 6: fp_lane_counters(engine, lane, &counters); break;
    case 7: if (chance(10) == 0) fp_drop(engine, source); break;
    case 8: if (chance(10) == 0) fp_end(engine, lane); break;
    case 9: fp_bind(engine, who->connection, &somewhere); break;
    case 10: fp_name(engine, source, 100 + chance(300), (int)chance(2)); break;
    case 11: fp_unbind(engine, chance(2) ? who->connection : other->connection, chance(2) ? &who->address : &somewhere); break;
    case 12: fp_retry(engine, who->connection), fp_lose(engine, (int)(chance(4) ? 0 : chance(4))); break;
    default: fp_nominate(engine, who->connection, &other->address); fp_nominate(engine, who->connection, &who->address); if (chance(4)) fp_nominate(engine, other->connection, &other->address); break;
    }
}

static void take(void) {
    static uint8_t into[1 << 16];
    for (int got; (got = fp_take(engine, into, sizeof into)) > 0;)
        for (int at = 0; at < got; records++) {
            fp_record *record = (fp_record *)(into + at);
            if (record->kind < FP_DATAGRAM || record->kind > FP_ENTERED || record->size > 2048) abort();
            if (record->kind == FP_PACKET && (uint32_t)record->packet.payload_at + record->packet.payload_size > record->size) abort();
            at += (int)(sizeof *record + ((record->size + 7) & ~7u));
        }
}

int main(int count, char **words) {
    if (count != 3) return 2;
    state = strtoull(words[1], NULL, 10) * 2 + 1;
    int rounds = atoi(words[2]), wake = eventfd(0, EFD_NONBLOCK), ours = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    socklen_t length = sizeof node;
    node = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(ours, (struct sockaddr *)&node, sizeof node) || getsockname(ours, (struct sockaddr *)&node, &length)) return 2;
    engine = fp_new(&(fp_srtp){seal, open_sealed, seal_rtcp, open_sealed}, &ours, 1, wake);
    if (engine == NULL) return 2;
    for (int at = 0; at < PEOPLE; at++) {
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        people[at].socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (bind(people[at].socket, (struct sockaddr *)&name, sizeof name)) return 2;
        getsockname(people[at].socket, (struct sockaddr *)&name, &length);
        people[at].address = (fp_address){.ip = {[10] = 0xFF, [11] = 0xFF, [12] = 127, [15] = 1}, .port = ntohs(name.sin_port)};
        join(&people[at], at);
    }
    uint8_t sink[MOST + 256];
    for (int round = 0; round < rounds; round++) {
        person *who = &people[round % PEOPLE];
        for (int at = 0; at < 20; at++) hear(who, round % PEOPLE);
        carelessly(who);
        if (chance(300) == 0) join(who, round % PEOPLE);
        if (chance(4) == 0) fp_drain(engine, 256);
        while (recv(who->socket, sink, sizeof sink, MSG_DONTWAIT) > 0) continue;
        take();
    }
    fp_drain(engine, 1 << 20);
    take();
    for (int at = 0; at < PEOPLE; at++) leave(&people[at]), close(people[at].socket);
    fp_free(engine);
    close(ours), close(wake);
    printf("seed=%s sent=%llu records=%llu again=%llu\n", words[1], (unsigned long long)sent, (unsigned long long)records, (unsigned long long)again);
    return 0;
}
