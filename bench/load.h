/* Read by the compiler and by cffi. */
typedef struct {
    uint64_t sent, failed, received, again, unreadable, rtcp, frames, late, feedbacks, reports, nacks;
} load_counts;

/* libsrtp's. */
void load_use(void *protect, void *unprotect, void *protect_rtcp, void *unprotect_rtcp);
/* The ids are of header extensions; 0: it carries none. */
int load_stream(void *context, int socket, const char *host, int port, uint32_t ssrc, int payload_type, int burst, int size, uint32_t step, int64_t period_ns, int number_id, int level_id);
/* The kernel says when a packet came to it, however late it is read. */
int load_sink(void *context, int socket);
/* Before load_run: what that sink's client says back, over the context that it seals with. */
int load_answers(int sink, void *context, int socket, const char *host, int port, int number_id);
/* And the payload type under which it is sent again what it lacks. */
void load_repairs(int sink, int payload_type);
void load_run(double seconds);
void load_read(load_counts *out);
double load_percentile_us(double share);
void load_clear(void);

/* While load_run runs, from another thread. Numbers are what load_stream and load_sink returned. */
void load_switch(int stream, int on);
uint64_t load_sent(int stream);
uint64_t load_received(int sink);
/* Packets that came a second time, as they were asked for, and those of probes. */
uint64_t load_again(int sink);
/* Monotonic nanoseconds at which the kernel had the sink's latest packet. */
int64_t load_last_ns(int sink);
/* Before: the sink's client also sends NACKs, PLIs and `check`, a hundred of each a second, whatever it is told. */
int load_hostile(int sink, const uint8_t *check, int size);
void load_stop(void);

/* The floor: nothing but sealing and sending, one picture to each receiver in one train; packets a CPU second. */
double load_floor(void **contexts, int receivers, int socket, const char *host, const int *ports, int pictures);
/* Takes what comes to these sockets until nothing has come for a second; packets. */
uint64_t load_drain(const int *sockets, int count);
