/* The engine's thread: waits for the sockets, reads in batches, tells media from the rest, and hands up what is
 * for Python. RFC 7983 tells the protocols of one port apart. */
#include "internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t engine_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Under full load the thread would take the mutex again before anybody else wakes: it lets who waits go first. */
void engine_lock(fp_engine *engine) {
    atomic_fetch_add(&engine->waiters, 1);
    pthread_mutex_lock(&engine->mutex);
    atomic_fetch_sub(&engine->waiters, 1);
}

void engine_unlock(fp_engine *engine) { pthread_mutex_unlock(&engine->mutex); }

/* --- records for Python: one producer (whoever holds the mutex), one consumer ----------------------------- */

/* Whose share of the queue a record takes, and how much that may be. Python hears in turn: what one client sends must
 * not keep it from hearing of all others. */
typedef struct {
    atomic_uint_fast64_t *bytes;
    uint64_t most;
} account;

static int accounts_of(fp_engine *engine, const fp_record *record, account *of) {
    switch (record->kind) {
    case FP_DATAGRAM: of[0] = (account){&engine->strangers, QUEUE_STRANGERS}; return 1;
    case FP_PACKET: of[0] = (account){&engine->media_of[record->account], QUEUE_MEDIA_EACH}; return 1;
    case FP_ENTERED: return 0;
    default:
        of[0] = (account){&engine->talk_of[record->account], QUEUE_TALK_EACH};
        of[1] = (account){&engine->talk, QUEUE_TALK};
        return 2;
    }
}

void engine_tell(fp_engine *engine, const fp_record *record, const uint8_t *data) {
    fp_record head = *record;
    if (data == NULL) head.size = 0;
    account shares[2];
    int count = accounts_of(engine, &head, shares);
    uint64_t need = sizeof head + ((head.size + 7u) & ~7u);
    uint64_t room = head.kind == FP_ENTERED ? QUEUE_BYTES : QUEUE_BYTES - QUEUE_RESERVE;
    uint64_t at = atomic_load_explicit(&engine->queue_head, memory_order_relaxed);
    bool fits = at + need - atomic_load_explicit(&engine->queue_tail, memory_order_acquire) <= room;
    for (int each = 0; each < count; each++) fits &= atomic_load(shares[each].bytes) + need <= shares[each].most;
    if (!fits) {
        atomic_fetch_add(&engine->dropped, 1);
        return;
    }
    for (int each = 0; each < count; each++) atomic_fetch_add(shares[each].bytes, need);
    const uint8_t *parts[] = {(const uint8_t *)&head, data};
    uint64_t sizes[] = {sizeof head, head.size}, place = at;
    for (int part = 0; part < 2; part++) {
        uint64_t start = place % QUEUE_BYTES, first = QUEUE_BYTES - start < sizes[part] ? QUEUE_BYTES - start : sizes[part];
        if (first) memcpy(engine->queue + start, parts[part], first);
        if (sizes[part] > first) memcpy(engine->queue, parts[part] + first, sizes[part] - first);
        place += sizes[part];
    }
    atomic_store_explicit(&engine->queue_head, at + need, memory_order_release);
    engine->told = true;
    engine->urgent |= head.kind != FP_RTCP && !(head.kind == FP_PACKET && head.flags & FP_PASSED);
}

void engine_wake(fp_engine *engine) {
    if (!engine->told || (!engine->urgent && engine->now_us - engine->woken_us < TELL_US)) return;
    engine->told = engine->urgent = false;
    engine->woken_us = engine->now_us;
    uint64_t one = 1;
    /* An eventfd that is full is readable already. */
    if (write(engine->wake, &one, sizeof one) < 0) return;
}

static void copy_out(const fp_engine *engine, uint64_t at, uint8_t *into, uint64_t size) {
    uint64_t start = at % QUEUE_BYTES, first = QUEUE_BYTES - start < size ? QUEUE_BYTES - start : size;
    memcpy(into, engine->queue + start, first);
    memcpy(into + first, engine->queue, size - first);
}

int fp_take(fp_engine *engine, uint8_t *into, int room) {
    uint64_t at = atomic_load_explicit(&engine->queue_tail, memory_order_relaxed);
    uint64_t end = atomic_load_explicit(&engine->queue_head, memory_order_acquire), taken = 0;
    while (at + taken < end) {
        fp_record head;
        copy_out(engine, at + taken, (uint8_t *)&head, sizeof head);
        uint64_t need = sizeof head + ((head.size + 7u) & ~7u);
        if (taken + need > (uint64_t)room) break;
        copy_out(engine, at + taken, into + taken, need);
        account shares[2];
        for (int each = accounts_of(engine, &head, shares) - 1; each >= 0; each--) atomic_fetch_sub(shares[each].bytes, need);
        taken += need;
    }
    atomic_store_explicit(&engine->queue_tail, at + taken, memory_order_release);
    return (int)taken;
}

uint64_t fp_dropped(fp_engine *engine) { return atomic_load(&engine->dropped); }

/* --- datagrams --------------------------------------------------------------------------------------------- */

static void from_sockaddr(const struct sockaddr_storage *from, int socket, fp_address *to) {
    memset(to, 0, sizeof *to);
    to->socket = (uint16_t)socket;
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)from;
        to->ip[10] = to->ip[11] = 0xFF;
        memcpy(to->ip + 12, &four->sin_addr, 4);
        to->port = ntohs(four->sin_port);
    } else {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;
        memcpy(to->ip, &six->sin6_addr, 16);
        to->port = ntohs(six->sin6_port);
    }
}

static uint32_t index_of(const fp_engine *engine, const connection *who) { return (uint32_t)(who - engine->connections); }

static uint32_t word(const uint8_t *at) { return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static void receive_rtcp(fp_engine *engine, connection *who, uint8_t *data, int size) {
    uint32_t ssrc = word(data + 4);
    int at = 0;
    while (at < who->talker_count && who->talkers[at] != ssrc) at++;
    if (at == TALKERS_EACH || engine->srtp.unprotect_rtcp(who->unprotect, data, &size)) return;
    if (at == who->talker_count) who->talkers[who->talker_count++] = ssrc;
    fp_record record = {
        .kind = FP_RTCP, .id = who->id, .at_us = engine->now_us, .size = (uint32_t)size, .account = index_of(engine, who),
    };
    engine_tell(engine, &record, data);
}

static bool has_room_for_one(const connection *who) {
    int live = 0;
    for (int at = 0; at < who->stream_count; at++)
        live += who->streams[at].opened && (who->streams[at].source != 0 || who->streams[at].stranger);
    return live < LIVE_EACH;
}

/* Each SSRC that is opened costs an SRTP stream, known or not, and for good: as `Ingress._may_open` has it in Python.
 * NULL: it is not to be opened. */
static stream *may_open(connection *who, uint32_t ssrc) {
    stream *from = stream_of(who, ssrc);
    if (from == NULL || (!from->opened && who->opened_count >= OPENED_EACH)) return NULL;
    if (from->source != 0) return from;
    return (from->stranger ? from->told < STRANGER_PACKETS : has_room_for_one(who)) ? from : NULL;
}

/* One of its packets has authenticated, whatever it holds. */
static void opened(connection *who, stream *from) {
    who->opened_count += !from->opened;
    from->opened = true;
    from->stranger = from->source == 0;
}

static void receive_opened(fp_engine *engine, connection *who, stream *from, const uint8_t *data, int size, uint32_t flags) {
    packet fresh;
    if (!rtp_parse(data, size, &fresh)) {
        who->unopened++;
        return;
    }
    if (from->source != 0) {
        forward_packet(engine, &engine->sources[from->source], data, size, &fresh, flags | (from->repairs ? FP_REPAIR : 0));
        return;
    }
    from->told++;
    fp_record record = {
        .kind = FP_STRANGER, .id = who->id, .at_us = engine->now_us, .size = (uint32_t)size, .account = index_of(engine, who),
    };
    engine_tell(engine, &record, data);
}

static void receive_rtp(fp_engine *engine, connection *who, uint8_t *data, int size) {
    stream *from = may_open(who, word(data + 8));
    if (from == NULL) {
        who->unknown++;
    } else if (engine->srtp.unprotect(who->unprotect, data, &size)) {
        who->unopened++;
    } else {
        opened(who, from);
        receive_opened(engine, who, from, data, size, 0);
    }
}

static void receive(fp_engine *engine, uint8_t *data, int size, const fp_address *from) {
    if (size < 1) return;
    if (data[0] >= 128 && data[0] < 192) {
        uint32_t index = tables_find(engine, from);
        connection *who = &engine->connections[index];
        if (index == 0 || who->unprotect == NULL || size < SMALLEST_PACKET || size > LARGEST_PACKET) return;
        if (data[1] >= 192 && data[1] <= 223)
            receive_rtcp(engine, who, data, size);
        else
            receive_rtp(engine, who, data, size);
    } else if (data[0] < 4 || (data[0] >= 20 && data[0] < 64)) {
        fp_record record = {.kind = FP_DATAGRAM, .at_us = engine->now_us, .address = *from, .size = (uint32_t)size};
        engine_tell(engine, &record, data);
    }
}

/* Read and handle up to `most` datagrams of one socket; how many there were. */
static int read_batch(fp_engine *engine, int socket, int most) {
    static _Thread_local uint8_t buffers[BATCH][LARGEST_DATAGRAM] __attribute__((aligned(16)));
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_storage names[BATCH];
    if (most > BATCH) most = BATCH;
    memset(messages, 0, sizeof(struct mmsghdr) * (size_t)most);
    for (int at = 0; at < most; at++) {
        parts[at] = (struct iovec){.iov_base = buffers[at], .iov_len = LARGEST_DATAGRAM};
        messages[at].msg_hdr = (struct msghdr){
            .msg_name = &names[at], .msg_namelen = sizeof names[at], .msg_iov = &parts[at], .msg_iovlen = 1,
        };
    }
    int count = recvmmsg(engine->sockets[socket], messages, (unsigned)most, MSG_DONTWAIT, NULL);
    engine->now_us = engine_clock();
    for (int at = 0; at < count; at++) {
        fp_address from;
        if (messages[at].msg_hdr.msg_flags & MSG_TRUNC) continue;
        from_sockaddr(&names[at], socket, &from);
        receive(engine, buffers[at], (int)messages[at].msg_len, &from);
    }
    forward_flush(engine);
    return count < 0 ? 0 : count;
}

int fp_inject(fp_engine *engine, uint32_t id, const uint8_t *packet, int size) {
    engine_lock(engine);
    engine->now_us = engine_clock();
    connection *who = connection_of(engine, id);
    stream *from = who && size >= HEADER && size <= LARGEST_PACKET ? may_open(who, word(packet + 8)) : NULL;
    if (from != NULL) {
        opened(who, from); /* it was, when it came up */
        receive_opened(engine, who, from, packet, size, FP_INJECTED);
    }
    forward_flush(engine);
    engine_wake(engine);
    engine_unlock(engine);
    return who ? FP_OK : FP_GONE;
}

/* Under the mutex: seal and send what was posted. Of connections that are gone meanwhile nothing. */
static void send_compounds(fp_engine *engine) {
    uint8_t data[LARGEST_PACKET + TRAILER];
    pthread_mutex_lock(&engine->post);
    compound *taken = engine->compounds;
    int count = engine->compound_count;
    engine->compounds = engine->sealing, engine->sealing = taken;
    engine->compound_count = 0;
    pthread_mutex_unlock(&engine->post);
    for (int at = 0; at < count; at++) {
        connection *who = connection_of(engine, taken[at].connection);
        int size = taken[at].size;
        if (who == NULL || who->protect == NULL || !who->nominated) continue;
        memcpy(data, taken[at].data, (size_t)size);
        if (engine->srtp.protect_rtcp(who->protect, data, &size) || !send_to(engine, &who->to, data, size)) who->refused++;
    }
}

/* What one socket holds, as it is, or a part of it if that is much; how many datagrams. */
static int read_all(fp_engine *engine, int socket) {
    int all = 0;
    for (int count = BATCH; count == BATCH && all < MOST_BATCHES * BATCH && !atomic_load(&engine->stopping); all += count) {
        for (int patience = 0; atomic_load(&engine->waiters) > 0 && patience < 1000; patience++) sched_yield();
        pthread_mutex_lock(&engine->mutex);
        count = read_batch(engine, socket, BATCH);
        engine_wake(engine);
        pthread_mutex_unlock(&engine->mutex);
    }
    return all;
}

static void *run(void *argument) {
    fp_engine *engine = argument;
    struct epoll_event ready[MOST_SOCKETS + 1];
    bool waits = false;
    int read = 0;
    while (!atomic_load(&engine->stopping)) {
        int count = epoll_wait(engine->poll, ready, MOST_SOCKETS + 1, waits ? TELL_US / 1000 : 1000);
        /* Who is behind does not wait. */
        if (count > 0 && read < CROWD) nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
        read = 0;
        for (int at = 0; at < count; at++) {
            uint64_t posted;
            if (ready[at].data.u32 < MOST_SOCKETS) {
                read += read_all(engine, (int)ready[at].data.u32);
            } else if (eventfd_read(engine->stop, &posted) == 0) {
                engine_lock(engine);
                send_compounds(engine);
                engine_unlock(engine);
            }
        }
        if (count > 0 && !waits) {
            waits = true; /* what has been forwarded meanwhile is told a little later */
            continue;
        }
        engine_lock(engine);
        engine->now_us = engine_clock();
        if (count == 0) engine->urgent = engine->told;
        engine_wake(engine);
        waits = engine->told;
        engine_unlock(engine);
    }
    return NULL;
}

/* A batch at a time: nothing of a batch is left undone when the mutex is free, so who finds a socket empty under it
 * knows that what came before has been handled, by whomever. */
static int drain_batch(fp_engine *engine, int socket, int most) {
    engine_lock(engine);
    int count = read_batch(engine, socket, most);
    engine->urgent = true;
    engine_wake(engine);
    engine_unlock(engine);
    return count;
}

int fp_drain(fp_engine *engine, int most) {
    engine_lock(engine);
    send_compounds(engine);
    engine_unlock(engine);
    for (int socket = 0; most > 0 && socket < engine->socket_count; socket++)
        for (int count = 1; most > 0 && count > 0; most -= count) count = drain_batch(engine, socket, most);
    return most > 0;
}

/* --- life --------------------------------------------------------------------------------------------------- */

static bool watch(fp_engine *engine, int descriptor, uint32_t number) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    return epoll_ctl(engine->poll, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

/* Signals are for the threads of whoever loaded us. */
static bool begin(fp_engine *engine) {
    sigset_t all, former;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    bool began = pthread_create(&engine->thread, NULL, run, engine) == 0;
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    return began;
}

fp_engine *fp_new(const fp_srtp *srtp, const int *sockets, int count, int wake) {
    if (count < 1 || count > MOST_SOCKETS) return NULL;
    fp_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) return NULL;
    engine->srtp = *srtp;
    engine->wake = wake;
    pthread_mutex_init(&engine->mutex, NULL);
    engine->queue = malloc(QUEUE_BYTES);
    engine->arena = malloc(ARENA_BYTES);
    pthread_mutex_init(&engine->post, NULL);
    engine->compounds = malloc(MOST_COMPOUNDS * sizeof *engine->compounds);
    engine->sealing = malloc(MOST_COMPOUNDS * sizeof *engine->sealing);
    engine->poll = epoll_create1(EPOLL_CLOEXEC);
    engine->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool fine = tables_make(engine) && engine->queue && engine->arena && engine->compounds && engine->sealing && watch(engine, engine->stop, MOST_SOCKETS);
    for (int at = 0; fine && at < count; at++) {
        struct sockaddr_storage name;
        socklen_t length = sizeof name;
        engine->sockets[at] = sockets[at];
        fine = getsockname(sockets[at], (struct sockaddr *)&name, &length) == 0 && watch(engine, sockets[at], (uint32_t)at);
        engine->families[at] = name.ss_family;
        engine->socket_count++;
    }
    if (fine && begin(engine)) return engine;
    engine->socket_count = -1;
    fp_free(engine);
    return NULL;
}

void fp_free(fp_engine *engine) {
    if (engine == NULL) return;
    if (engine->socket_count > 0) {
        uint64_t one = 1;
        atomic_store(&engine->stopping, true);
        /* Full, it is readable already; and the thread looks once a second by itself. */
        ssize_t written = write(engine->stop, &one, sizeof one);
        (void)written;
        pthread_join(engine->thread, NULL);
    }
    close(engine->poll);
    close(engine->stop);
    tables_free(engine);
    free(engine->queue);
    free(engine->arena);
    free(engine->compounds);
    free(engine->sealing);
    pthread_mutex_destroy(&engine->post);
    pthread_mutex_destroy(&engine->mutex);
    free(engine);
}

#ifndef FP_SOURCES
#define FP_SOURCES 0 /* not compiled by media/fastpath/build.py, which knows them */
#endif
uint64_t fp_abi(void) { return FP_SOURCES; }

int fp_send_rtcp(fp_engine *engine, uint32_t id, const uint8_t *data, int size) {
    if (size < 8 || size > LARGEST_PACKET - 100) return FP_REFUSED;
    pthread_mutex_lock(&engine->post);
    bool first = engine->compound_count == 0, fits = engine->compound_count < MOST_COMPOUNDS;
    if (fits) {
        compound *fresh = &engine->compounds[engine->compound_count++];
        fresh->connection = id, fresh->size = size;
        memcpy(fresh->data, data, (size_t)size);
    }
    pthread_mutex_unlock(&engine->post);
    uint64_t one = 1;
    if (first && write(engine->stop, &one, sizeof one) < 0) return FP_REFUSED;
    return fits ? FP_OK : FP_FULL;
}
