/* Read by the compiler and by cffi. */
typedef struct {
    uint64_t sent, failed, received, unreadable, rtcp, frames, late;
} load_counts;

void load_use(void *protect_with, void *unprotect_with);
int load_stream(void *context, int socket, const char *host, int port, uint32_t ssrc, int payload_type, int burst, int size, uint32_t step, int64_t period_ns);
int load_sink(void *context, int socket);
/* The kernel says when a packet came to this sink, however late it is read. */
int load_times(int sink);
void load_run(double seconds);
void load_read(load_counts *out);
double load_percentile_us(double share);
void load_clear(void);

/* While load_run runs, from another thread. Numbers are what load_stream and load_sink returned. */
void load_switch(int stream, int on);
uint64_t load_sent(int stream);
uint64_t load_received(int sink);
/* Monotonic nanoseconds at which the kernel had the sink's latest packet; of a hostile one. */
int64_t load_last_ns(int sink);
/* Before: make the sink's client one that sends NACKs, PLIs and `check` to host and port, whatever it is told.
 * `with`: libsrtp's srtp_protect_rtcp. */
int load_hostile(int sink, void *with, void *context, const char *host, int port, const uint8_t *check, int size);
void load_stop(void);
