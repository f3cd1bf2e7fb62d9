/* Careless callers and any payloads, under the sanitizers: `torture SEED ROUNDS`.
 *
 * Feedback is random, or right with a few bits turned. SRTP is a stand-in that writes a tag and reads its context, which is freed when its destination is forgotten: a
 * use after that ends the program. So does everything else that a sanitizer sees.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "twcc.h"

#include "fan.h"

enum { TAG = 16, PEOPLE = 8, LANES = 12, MOST = 1700 };

static uint64_t state;

static uint32_t chance(uint32_t below) { /* xorshift64* */
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 33) % below;
}

static int seal(void *context, void *data, int *size) {
    if (chance(100) == 0) return 1;
    memset((uint8_t *)data + *size, *(uint8_t *)context, TAG);
    *size += TAG;
    return 0;
}

/* Feedback of any length: a base near what was sent, any chunks, deltas enough or not. */
static void feed(twcc *history) {
    int size = (int)chance(chance(9) ? 80 : 1500);
    uint8_t *exact = malloc((size_t)size + 1);
    for (int at = 0; at < size; at++) exact[at] = (uint8_t)(chance(3) ? chance(256) : 0);
    uint16_t base = (uint16_t)(twcc_stamp(history, (int64_t)(state >> 16), 100) - chance(300));
    if (size > 11) exact[8] = (uint8_t)(base >> 8), exact[9] = (uint8_t)base, exact[10] = chance(30) ? 0 : 0x0F;
    if (size > 17 && chance(4)) exact[16] = chance(2) ? 0x20 : 0xC0 | (uint8_t)chance(64);
    twcc_report said;
    if (!twcc_feedback(history, exact, size, &said) && (said.count || said.received)) abort();
    if (said.count < 0 || said.count > 32 || said.probe_arrived_us < 0) abort();
    free(exact);
}

int main(int count, char **words) {
    if (count != 3) return 2;
    state = strtoull(words[1], NULL, 10) * 2 + 1;
    int rounds = atoi(words[2]), ours = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int sink = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof name;
    if (bind(sink, (struct sockaddr *)&name, sizeof name) || getsockname(sink, (struct sockaddr *)&name, &length)) return 2;
    fan *all = fan_new(seal);
    uint32_t people[PEOPLE] = {0};
    twcc *histories[PEOPLE] = {0};
    uint8_t *contexts[PEOPLE] = {0}, packet[MOST], drop[4096];
    unsigned long came = 0;
    for (int round = 0; round < rounds; round++) {
        uint32_t who = chance(PEOPLE);
        if (people[who] == 0 || chance(20) == 0) {
            fan_forget(all, people[who]);
            free(contexts[who]);
            twcc_free(histories[who]);
            histories[who] = chance(4) ? twcc_new() : NULL;
            contexts[who] = malloc(1);
            *contexts[who] = (uint8_t)who;
            people[who] = fan_destination(all, contexts[who], chance(50) ? ours : -1, &name, sizeof name, histories[who]);
        }
        fan_lane *lanes = malloc(LANES * sizeof *lanes);
        for (int at = 0; at < LANES; at++)
            lanes[at] = (fan_lane){
                .destination = chance(8) ? people[chance(PEOPLE)] : chance(UINT32_MAX), .ssrc = chance(99),
                .picture_offset = (uint16_t)chance(1 << 16), .level_offset = (uint8_t)chance(256),
                .shifted = chance(2) != 0, .payload_type = (uint8_t)chance(128),
                .extension = (uint8_t)chance(15),
            };
        int size = chance(10) ? 12 + (int)chance(40) : (int)chance(MOST);
        uint8_t *exact = malloc((size_t)size + 1); /* so that reading behind it is seen */
        for (int at = 0; at < size; at++) exact[at] = (uint8_t)(chance(3) ? 0x80 | chance(128) : chance(256));
        memcpy(packet, exact, (size_t)size);
        for (uint32_t burst = chance(chance(40) ? 6 : 400); burst > 0; burst--)
            fan_packet(all, lanes, (int)chance(LANES + 1), exact, size, (uint16_t)round, (uint32_t)round, 0x80);
        if (memcmp(packet, exact, (size_t)size)) abort();
        free(exact);
        free(lanes);
        if (chance(3)) fan_flush(all);
        if (histories[who] != NULL) {
            twcc_probe(histories[who], (int)chance(3));
            feed(histories[who]);
            if (chance(9) == 0) twcc_settle(histories[who]);
        }
        fan_refused(all, people[chance(PEOPLE)]);
        while (recv(sink, drop, sizeof drop, 0) >= 0) came++;
    }
    fan_free(all);
    for (int at = 0; at < PEOPLE; at++) free(contexts[at]), twcc_free(histories[at]);
    close(ours), close(sink);
    printf("seed=%s rounds=%d came=%lu\n", words[1], rounds, came);
    return 0;
}
