/* What was sent under transport-wide numbers, and what a receiver's feedback says became of it
 * (draft-holmer-rmcat-transport-wide-cc-extensions-01), as far as an estimator of bandwidth wants to know.
 *
 * One history a connection. Whoever sends a packet asks for its number; whoever gets feedback gives it in and is
 * told sums, and by how much groups of packets drew apart on their way. Feedback comes from hostile clients: it costs
 * what its own length allows, is taken whole or not at all, and lies harm nobody but the liar. One thread at a time.
 * Times are microseconds of CLOCK_MONOTONIC here, and of the receiver's own clock where it reports.
 * Read by the compiler and by cffi: declarations only.
 */

typedef struct twcc twcc;

/* From one group of packets to the next: how much later it was sent, how much later it arrived, its bytes;
 * at most five seconds: more than that is a silence, too. */
typedef struct {
    int32_t sent_us, arrived_us;
    uint32_t octets;
} twcc_step;

typedef struct {
    uint32_t received, lost, recovered, octets; /* recovered: counted as lost before */
    int64_t sent_us, arrived_us;                /* of the packet sent last of those received; no times if none was */
    uint32_t probe_packets, probe_octets;       /* of the probe up to now, without its first packet */
    int32_t probe_sent_us, probe_arrived_us;    /* from its first packet to its last */
    int32_t count;
    twcc_step steps[32];
} twcc_report;

twcc *twcc_new(void); /* NULL: no memory */
void twcc_free(twcc *of);
/* The number of a packet that is sent now. `size`: as it leaves. */
uint16_t twcc_stamp(twcc *of, int64_t now_us, int size);
/* What is sent from now on belongs to a probe of this number, 1 to 255; 0: to none. */
void twcc_probe(twcc *of, int probe);
/* What was sent up to now is not counted as lost any more: who sent too much knows it, and sends less. */
void twcc_settle(twcc *of);
/* `body`: an RTCP packet of type 205, format 15, behind its first word. 0: it makes no sense, and nothing changed. */
int twcc_feedback(twcc *of, const uint8_t *body, int size, twcc_report *said);
