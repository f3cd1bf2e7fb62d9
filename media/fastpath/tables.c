/* Connections, sources and lanes: who is known, and how ids become them. Everything here runs under the mutex. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* An id is an index in its low 16 bits, which is what MOST_LANES takes, and a generation above: 0 is nobody's. */
enum { INDEX_BITS = 16, INDEX_MASK = (1 << INDEX_BITS) - 1 };

static uint32_t id_for(fp_engine *engine, uint32_t index) {
    return ++engine->generation << INDEX_BITS | index; /* its upper half is nobody's */
}

static uint32_t *free_list(uint32_t most, uint32_t *count) {
    uint32_t *list = calloc(most, sizeof *list);
    if (list != NULL)
        for (uint32_t index = most - 1; index > 0; index--) list[(*count)++] = index; /* 0 is nobody's index */
    return list;
}

bool tables_make(fp_engine *engine) {
    engine->connections = calloc(MOST_CONNECTIONS, sizeof *engine->connections);
    engine->sources = calloc(MOST_SOURCES, sizeof *engine->sources);
    engine->lanes = calloc(MOST_LANES, sizeof *engine->lanes);
    engine->addresses = calloc(MOST_ADDRESSES, sizeof *engine->addresses);
    engine->free_connections = free_list(MOST_CONNECTIONS, &engine->free_connection_count);
    engine->free_sources = free_list(MOST_SOURCES, &engine->free_source_count);
    engine->free_lanes = free_list(MOST_LANES, &engine->free_lane_count);
    return engine->connections && engine->sources && engine->lanes && engine->addresses && engine->free_connections &&
           engine->free_sources && engine->free_lanes;
}

connection *connection_of(fp_engine *engine, uint32_t id) {
    connection *found = &engine->connections[(id & INDEX_MASK) % MOST_CONNECTIONS];
    return id != 0 && found->id == id ? found : NULL;
}

source *source_of(fp_engine *engine, uint32_t id) {
    source *found = &engine->sources[(id & INDEX_MASK) % MOST_SOURCES];
    return id != 0 && found->id == id ? found : NULL;
}

lane *lane_of(fp_engine *engine, uint32_t id) {
    lane *found = &engine->lanes[(id & INDEX_MASK) % MOST_LANES];
    return id != 0 && found->id == id ? found : NULL;
}

/* --- addresses: open addressing, linear probing, no tombstones ---------------------------------------- */

static bool same(const fp_address *one, const fp_address *other) {
    return one->port == other->port && one->socket == other->socket && memcmp(one->ip, other->ip, sizeof one->ip) == 0;
}

static uint32_t place_of(const fp_address *address) {
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a; what a peer can gain by choosing ports is bounded by checks */
    for (size_t at = 0; at < sizeof address->ip; at++) hash = (hash ^ address->ip[at]) * 0x100000001B3u;
    hash = (hash ^ (address->port & 0xFF)) * 0x100000001B3u;
    hash = (hash ^ (address->port >> 8)) * 0x100000001B3u;
    hash = (hash ^ address->socket) * 0x100000001B3u;
    return (uint32_t)(hash ^ hash >> 32) & (MOST_ADDRESSES - 1);
}

uint32_t tables_find(fp_engine *engine, const fp_address *address) {
    for (uint32_t at = place_of(address); engine->addresses[at].connection; at = (at + 1) & (MOST_ADDRESSES - 1))
        if (same(&engine->addresses[at].address, address)) return engine->addresses[at].connection;
    return 0;
}

static void address_add(fp_engine *engine, const fp_address *address, uint32_t index) {
    uint32_t at = place_of(address);
    while (engine->addresses[at].connection) at = (at + 1) & (MOST_ADDRESSES - 1);
    engine->addresses[at].address = *address;
    engine->addresses[at].connection = index;
    engine->address_count++;
}

static void address_remove(fp_engine *engine, const fp_address *address) {
    uint32_t at = place_of(address);
    while (engine->addresses[at].connection && !same(&engine->addresses[at].address, address))
        at = (at + 1) & (MOST_ADDRESSES - 1);
    if (!engine->addresses[at].connection) return;
    engine->addresses[at].connection = 0;
    engine->address_count--;
    /* Whoever was pushed on by it moves back. */
    for (uint32_t next = (at + 1) & (MOST_ADDRESSES - 1); engine->addresses[next].connection;
         next = (next + 1) & (MOST_ADDRESSES - 1)) {
        uint32_t home = place_of(&engine->addresses[next].address);
        if (((next - home) & (MOST_ADDRESSES - 1)) >= ((next - at) & (MOST_ADDRESSES - 1))) {
            engine->addresses[at] = engine->addresses[next];
            engine->addresses[next].connection = 0;
            at = next;
        }
    }
}

/* --- connections --------------------------------------------------------------------------------------- */

uint32_t fp_open(fp_engine *engine) {
    engine_lock(engine);
    uint32_t id = 0;
    if (engine->free_connection_count > 0) {
        uint32_t index = engine->free_connections[--engine->free_connection_count];
        connection *fresh = &engine->connections[index];
        memset(fresh, 0, sizeof *fresh);
        fresh->pending_first = fresh->pending_last = -1;
        id = fresh->id = id_for(engine, index);
    }
    engine_unlock(engine);
    return id;
}

static int bind_locked(fp_engine *engine, connection *who, const fp_address *address) {
    uint32_t index = (uint32_t)(who - engine->connections), owner = tables_find(engine, address);
    if (owner == index) return FP_OK;
    if (address->socket >= engine->socket_count) return FP_REFUSED;
    if (owner != 0) {
        /* The other side opened another connection from there: the latest check counts. */
        connection *former = &engine->connections[owner];
        for (int at = 0; at < former->bound_count; at++)
            if (same(&former->bound[at], address)) former->bound[at--] = former->bound[--former->bound_count];
        address_remove(engine, address);
    }
    if (who->bound_count >= ADDRESSES_EACH || engine->address_count >= MOST_ADDRESSES / 2) return FP_FULL;
    who->bound[who->bound_count++] = *address;
    address_add(engine, address, index);
    return FP_OK;
}

int fp_bind(fp_engine *engine, uint32_t id, const fp_address *address) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    int answer = who ? bind_locked(engine, who, address) : FP_GONE;
    engine_unlock(engine);
    return answer;
}

int fp_nominate(fp_engine *engine, uint32_t id, const fp_address *address) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    int answer = who ? bind_locked(engine, who, address) : FP_GONE;
    if (answer == FP_OK) {
        if (!same(&who->to, address)) who->no_trains = false; /* another path may take them */
        who->to = *address, who->nominated = true;
    }
    engine_unlock(engine);
    return answer;
}

int fp_secure(fp_engine *engine, uint32_t id, void *protect, void *unprotect) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    if (who) who->protect = protect, who->unprotect = unprotect;
    engine_unlock(engine);
    return who ? FP_OK : FP_GONE;
}

int fp_unbind(fp_engine *engine, uint32_t id, const fp_address *address) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    for (int at = 0; who != NULL && at < who->bound_count; at++)
        if (same(&who->bound[at], address)) {
            who->bound[at] = who->bound[--who->bound_count];
            address_remove(engine, address);
            break;
        }
    engine_unlock(engine);
    return who ? FP_OK : FP_GONE;
}

int fp_retry(fp_engine *engine, uint32_t id) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    for (int at = 0; who != NULL && at < who->stream_count; at++) who->streams[at].told = 0;
    engine_unlock(engine);
    return who ? FP_OK : FP_GONE;
}

int fp_number(fp_engine *engine, uint32_t id) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    if (who && who->history == NULL) who->history = twcc_new();
    int answer = who == NULL ? FP_GONE : who->history == NULL ? FP_FULL : FP_OK;
    engine_unlock(engine);
    return answer;
}

int fp_probe(fp_engine *engine, uint32_t id, int probe) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    if (who && who->history) twcc_probe(who->history, probe);
    engine_unlock(engine);
    return who ? FP_OK : FP_GONE;
}

int fp_settle(fp_engine *engine, uint32_t id) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    if (who && who->history) twcc_settle(who->history);
    engine_unlock(engine);
    return who ? FP_OK : FP_GONE;
}

int fp_feedback(fp_engine *engine, uint32_t id, const uint8_t *body, int size, twcc_report *said) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    int sense = who && who->history ? twcc_feedback(who->history, body, size, said) : 0;
    engine_unlock(engine);
    return sense;
}

int fp_connection_counters(fp_engine *engine, uint32_t id, fp_counters *out) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    if (who) *out = (fp_counters){.refused = who->refused, .unknown = who->unknown, .unopened = who->unopened};
    engine_unlock(engine);
    return who ? FP_OK : FP_GONE;
}

/* --- sources ------------------------------------------------------------------------------------------- */

stream *stream_of(connection *who, uint32_t ssrc) {
    stream *vacant = NULL;
    for (int at = 0; at < who->stream_count; at++) {
        stream *each = &who->streams[at];
        bool taken = each->source != 0 || each->opened;
        if (taken && each->ssrc == ssrc) return each;
        if (!taken && vacant == NULL) vacant = each;
    }
    if (vacant == NULL && who->stream_count < STREAMS_EACH) vacant = &who->streams[who->stream_count++];
    if (vacant != NULL) *vacant = (stream){.ssrc = ssrc};
    return vacant;
}

static void source_free(fp_engine *engine, source *which) {
    connection *who = &engine->connections[which->connection];
    uint32_t index = (uint32_t)(which - engine->sources);
    for (int at = 0; at < who->stream_count; at++)
        if (who->streams[at].source == index) who->streams[at].source = 0, who->streams[at].told = 0;
    for (int at = 0; at < which->lane_count; at++) {
        lane *carrying = &engine->lanes[which->lanes[at]];
        if (carrying->source == index) carrying->source = 0;
        if (carrying->next == index) carrying->next = 0;
    }
    for (uint32_t at = 0; which->ring != NULL && at < RING; at++) free(which->ring[at].payload);
    free(which->ring);
    free(which->lanes);
    uint32_t *link = &who->sources;
    while (*link != index) link = &engine->sources[*link].sibling;
    *link = which->sibling;
    memset(which, 0, sizeof *which);
    engine->free_sources[engine->free_source_count++] = index;
}

uint32_t fp_source(fp_engine *engine, uint32_t id, int codec, int clock_rate, int64_t until_us) {
    engine_lock(engine);
    uint32_t made = 0;
    connection *who = connection_of(engine, id);
    kept *ring = who && engine->free_source_count > 0 ? calloc(RING, sizeof *ring) : NULL;
    if (ring != NULL) {
        uint32_t index = engine->free_sources[--engine->free_source_count];
        source *fresh = &engine->sources[index];
        *fresh = (source){
            .ring = ring, .connection = (uint32_t)(who - engine->connections), .codec = codec, .clock_rate = clock_rate,
            .highest = -1, .until_us = until_us, .sibling = who->sources,
        };
        who->sources = index;
        for (uint32_t at = 0; at < RING; at++) ring[at].sequence = -1;
        made = fresh->id = id_for(engine, index);
    }
    engine_unlock(engine);
    return made;
}

int fp_name(fp_engine *engine, uint32_t id, uint32_t ssrc, int repairs) {
    engine_lock(engine);
    source *which = source_of(engine, id);
    stream *named = which ? stream_of(&engine->connections[which->connection], ssrc) : NULL;
    if (named != NULL) named->source = (uint32_t)(which - engine->sources), named->repairs = repairs != 0, named->stranger = false;
    engine_unlock(engine);
    return which == NULL ? FP_GONE : named == NULL ? FP_FULL : FP_OK;
}

int fp_read(fp_engine *engine, uint32_t id, int wide, int level) {
    engine_lock(engine);
    source *which = source_of(engine, id);
    if (which) which->wide_id = wide, which->level_id = level;
    engine_unlock(engine);
    return which ? FP_OK : FP_GONE;
}

/* Nothing passes for now: whoever carried it waits for its next key frame. */
void source_hush(fp_engine *engine, source *which) {
    uint32_t index = (uint32_t)(which - engine->sources);
    for (int at = which->lane_count - 1; at >= 0; at--) {
        lane *carrying = &engine->lanes[which->lanes[at]];
        if (carrying->source != index) continue;
        carrying->source = 0;
        fp_entry none = {.ticket = carrying->wish.ticket};
        fp_record record = {.kind = FP_ENTERED, .id = carrying->id, .at_us = engine->now_us, .size = sizeof none};
        engine_tell(engine, &record, (uint8_t *)&none);
        if (carrying->next == 0) {
            carrying->next = index; /* as it was wished */
        } else {
            lane_unlist(which, which->lanes[at]); /* it is on its way to another one */
        }
    }
}

int64_t fp_gate(fp_engine *engine, uint32_t id, int64_t until_us, int64_t from) {
    engine_lock(engine);
    source *which = source_of(engine, id);
    int64_t newest = which ? which->highest : FP_GONE - 1;
    if (which) {
        engine->now_us = engine_clock();
        which->until_us = until_us;
        if (engine->now_us >= until_us) {
            source_hush(engine, which);
        } else if (from >= 0) {
            forward_replay(engine, which, from);
            forward_flush(engine);
        }
        engine_wake(engine);
    }
    engine_unlock(engine);
    return newest;
}

int fp_source_counters(fp_engine *engine, uint32_t id, fp_counters *out) {
    engine_lock(engine);
    source *which = source_of(engine, id);
    if (which)
        *out = (fp_counters){
            .packets = which->packets, .octets = which->octets, .repeated = which->repeated, .gated = which->gated,
            .highest = which->highest,
        };
    engine_unlock(engine);
    return which ? FP_OK : FP_GONE;
}

void fp_drop(fp_engine *engine, uint32_t id) {
    engine_lock(engine);
    source *which = source_of(engine, id);
    if (which) source_free(engine, which);
    engine_unlock(engine);
}

/* --- lanes --------------------------------------------------------------------------------------------- */

uint32_t fp_lane(fp_engine *engine, uint32_t id, uint32_t ssrc, uint32_t retransmission_ssrc) {
    engine_lock(engine);
    uint32_t made = 0;
    connection *who = connection_of(engine, id);
    if (who && engine->free_lane_count > 0) {
        uint32_t index = engine->free_lanes[--engine->free_lane_count];
        lane *fresh = &engine->lanes[index];
        memset(fresh, 0, sizeof *fresh);
        fresh->connection = (uint32_t)(who - engine->connections);
        fresh->ssrc = ssrc, fresh->retransmission_ssrc = retransmission_ssrc;
        fresh->sibling = who->lanes;
        who->lanes = index;
        made = fresh->id = id_for(engine, index);
    }
    engine_unlock(engine);
    return made;
}

void lane_unlist(source *from, uint32_t index) {
    for (int at = 0; at < from->lane_count; at++)
        if (from->lanes[at] == index) {
            from->lanes[at] = from->lanes[--from->lane_count];
            return;
        }
}

static bool lane_list(source *by, uint32_t index) {
    for (int at = 0; at < by->lane_count; at++)
        if (by->lanes[at] == index) return true;
    if (by->lane_count == by->lane_room) {
        int room = by->lane_room ? 2 * by->lane_room : 16;
        uint32_t *more = realloc(by->lanes, (size_t)room * sizeof *more);
        if (more == NULL) return false;
        by->lanes = more, by->lane_room = room;
    }
    by->lanes[by->lane_count++] = index;
    return true;
}

static void carry_nothing(fp_engine *engine, lane *which) {
    uint32_t index = (uint32_t)(which - engine->lanes);
    if (which->source != 0) lane_unlist(&engine->sources[which->source], index);
    if (which->next != 0 && which->next != which->source) lane_unlist(&engine->sources[which->next], index);
    which->source = which->next = 0;
}

static int carry(fp_engine *engine, lane *which, uint32_t target) {
    uint32_t index = (uint32_t)(which - engine->lanes);
    const fp_wish *wish = &which->wish;
    if (which->next != 0 && which->next != which->source && which->next != target) {
        lane_unlist(&engine->sources[which->next], index);
        which->next = 0;
    }
    if (!lane_list(&engine->sources[target], index)) return FP_FULL;
    if (which->source != target) {
        which->next = target;
        return FP_OK;
    }
    which->next = 0;
    if (which->payload_type == wish->payload_type && which->extension == wish->extension && which->retransmission_type == wish->retransmission_type)
        return FP_OK;
    /* What was sent under other types is not sent again: the same number would stand for two headers. */
    which->payload_type = wish->payload_type, which->retransmission_type = wish->retransmission_type;
    which->extension = wish->extension;
    which->first = engine->sources[target].highest + 1;
    return FP_OK;
}

int fp_carry(fp_engine *engine, uint32_t id, const fp_wish *wish) {
    engine_lock(engine);
    lane *which = lane_of(engine, id);
    source *wanted = source_of(engine, wish->source);
    int answer = which == NULL || (wish->source != 0 && wanted == NULL) ? FP_GONE : FP_OK;
    if (answer == FP_OK) {
        which->wish = *wish;
        which->wish.payload_type &= 0x7F, which->wish.retransmission_type &= 0x7F, which->wish.extension &= 0x0F;
        if (wanted == NULL)
            carry_nothing(engine, which);
        else
            answer = carry(engine, which, (uint32_t)(wanted - engine->sources));
    }
    engine_unlock(engine);
    return answer;
}

int fp_pad(fp_engine *engine, uint32_t id) {
    engine_lock(engine);
    engine->now_us = engine_clock();
    lane *which = lane_of(engine, id);
    bool sent = which && forward_padding(engine, which);
    forward_flush(engine);
    engine_unlock(engine);
    return sent;
}

void fp_lose(fp_engine *engine, int one_in) {
    engine_lock(engine);
    engine->lose_one_in = one_in;
    engine_unlock(engine);
}

uint64_t fp_lost(fp_engine *engine) {
    engine_lock(engine);
    uint64_t lost = engine->lost;
    engine_unlock(engine);
    return lost;
}

int fp_resend(fp_engine *engine, uint32_t id, const uint16_t *numbers, int count) {
    engine_lock(engine);
    engine->now_us = engine_clock();
    lane *which = lane_of(engine, id);
    int sent = 0;
    for (int at = 0; which != NULL && at < count; at++) sent += forward_again(engine, which, numbers[at]);
    forward_flush(engine);
    engine_unlock(engine);
    return sent;
}

int fp_lane_counters(fp_engine *engine, uint32_t id, fp_counters *out) {
    engine_lock(engine);
    lane *which = lane_of(engine, id);
    if (which)
        *out = (fp_counters){
            .packets = which->packets, .octets = which->octets, .refused = which->refused,
            .retransmitted = which->retransmitted, .highest = which->highest,
            .sequence_offset = which->offset, .timestamp_offset = which->timestamp_offset,
            .source = which->source ? engine->sources[which->source].id : 0,
        };
    engine_unlock(engine);
    return which ? FP_OK : FP_GONE;
}

static void lane_free(fp_engine *engine, lane *which) {
    uint32_t index = (uint32_t)(which - engine->lanes);
    carry_nothing(engine, which);
    memset(which, 0, sizeof *which);
    engine->free_lanes[engine->free_lane_count++] = index;
}

void fp_end(fp_engine *engine, uint32_t id) {
    engine_lock(engine);
    lane *which = lane_of(engine, id);
    if (which) {
        uint32_t *link = &engine->connections[which->connection].lanes;
        while (*link != (uint32_t)(which - engine->lanes)) link = &engine->lanes[*link].sibling;
        *link = which->sibling;
        lane_free(engine, which);
    }
    engine_unlock(engine);
}

void fp_close(fp_engine *engine, uint32_t id) {
    engine_lock(engine);
    connection *who = connection_of(engine, id);
    if (who) {
        uint32_t index = (uint32_t)(who - engine->connections);
        while (who->sources != 0) source_free(engine, &engine->sources[who->sources]); /* also those without an SSRC */
        while (who->lanes != 0) {
            lane *last = &engine->lanes[who->lanes];
            who->lanes = last->sibling;
            lane_free(engine, last);
        }
        for (int at = 0; at < who->bound_count; at++) address_remove(engine, &who->bound[at]);
        twcc_free(who->history);
        memset(who, 0, sizeof *who);
        engine->free_connections[engine->free_connection_count++] = index;
    }
    engine_unlock(engine);
}

void tables_free(fp_engine *engine) {
    for (uint32_t at = 1; engine->sources != NULL && at < MOST_SOURCES; at++)
        if (engine->sources[at].id) source_free(engine, &engine->sources[at]);
    for (uint32_t at = 1; engine->connections != NULL && at < MOST_CONNECTIONS; at++) twcc_free(engine->connections[at].history);
    free(engine->connections);
    free(engine->sources);
    free(engine->lanes);
    free(engine->addresses);
    free(engine->free_connections);
    free(engine->free_sources);
    free(engine->free_lanes);
}
