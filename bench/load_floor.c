/* The floor of the forwarding bench: what nobody can do without who seals each packet for each receiver and hands it
 * to the kernel. One picture to each receiver in one train (UDP_SEGMENT), and sound, in the room's own mix.
 */
#include "load_internal.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { SEGMENT = 103, TAG = 16 };

static int sealed(void *context, uint8_t *out, uint16_t sequence, int size) {
    memset(out, 0, (size_t)size);
    out[0] = 0x80, out[1] = 96, out[2] = (uint8_t)(sequence >> 8), out[3] = (uint8_t)sequence, out[11] = 7;
    return protect(context, out, &size) ? -1 : size;
}

static int launch(int socket, const struct sockaddr_in *to, uint8_t *data, int size, int segment) {
    char control[CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8))) = {0};
    struct iovec part = {.iov_base = data, .iov_len = (size_t)size};
    struct msghdr message = {.msg_name = (void *)to, .msg_namelen = sizeof *to, .msg_iov = &part, .msg_iovlen = 1};
    if (size > segment) {
        message.msg_control = control, message.msg_controllen = sizeof control;
        struct cmsghdr *word = CMSG_FIRSTHDR(&message);
        word->cmsg_level = IPPROTO_UDP, word->cmsg_type = SEGMENT, word->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        memcpy(CMSG_DATA(word), (uint16_t[]){(uint16_t)segment}, sizeof(uint16_t));
    }
    return sendmsg(socket, &message, 0) < 0 ? -1 : 0;
}

double load_floor(void **contexts, int receivers, int socket, const char *host, const int *ports, int pictures) {
    static uint8_t data[PACKETS_A_PICTURE * (PICTURE_BYTES + 64)];
    struct sockaddr_in to[MOST_STREAMS];
    struct timespec began, ended;
    long packets = 0;
    uint16_t sequence[MOST_STREAMS] = {0};
    for (int at = 0; at < receivers; at++)
        if (to_address(&to[at], host, ports[at])) return -1;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
    for (int picture = 0; picture < pictures; picture++)
        for (int at = 0; at < receivers; at++) {
            int size = 0;
            for (int number = 0; number < PACKETS_A_PICTURE; number++) {
                int one = sealed(contexts[at], data + size, ++sequence[at], PICTURE_BYTES);
                if (one < 0) return -1;
                size += one;
            }
            if (launch(socket, &to[at], data, size, PICTURE_BYTES + TAG)) return -1;
            packets += PACKETS_A_PICTURE;
            /* 50 of sound to 30 pictures. */
            for (int sounds = picture % 3 ? 2 : 1; sounds; sounds--, packets++) {
                size = sealed(contexts[at], data, ++sequence[at], SOUND_BYTES);
                if (size < 0 || launch(socket, &to[at], data, size, size)) return -1;
            }
        }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ended);
    return (double)packets / ((double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec));
}

uint64_t load_drain(const int *sockets, int count) {
    static uint8_t data[BATCH][LARGEST];
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct pollfd wanted[MOST_STREAMS];
    uint64_t packets = 0;
    memset(messages, 0, sizeof messages);
    for (int at = 0; at < BATCH; at++) {
        parts[at] = (struct iovec){.iov_base = data[at], .iov_len = LARGEST};
        messages[at].msg_hdr = (struct msghdr){.msg_iov = &parts[at], .msg_iovlen = 1};
    }
    for (int at = 0; at < count; at++) wanted[at] = (struct pollfd){.fd = sockets[at], .events = POLLIN};
    while (poll(wanted, (nfds_t)count, packets ? 1000 : 10000) > 0)
        for (int at = 0; at < count; at++) {
            int got = recvmmsg(sockets[at], messages, BATCH, MSG_DONTWAIT, NULL);
            packets += got > 0 ? (uint64_t)got : 0;
        }
    return packets;
}
