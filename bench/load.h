/* Read by the compiler and by cffi. */
typedef struct {
    uint64_t sent, failed, received, unreadable, rtcp;
} load_counts;

void load_use(void *protect_with, void *unprotect_with);
int load_stream(void *context, int socket, const char *host, int port, uint32_t ssrc, int payload_type, int burst, int size, uint32_t step, int64_t period_ns);
int load_sink(void *context, int socket);
void load_run(double seconds);
void load_read(load_counts *out);
double load_percentile_us(double share);
void load_clear(void);
