/* One packet to everybody: numbered, sealed and sent for each subscriber, in runs that the kernel takes at once.
 *
 * Python decides who gets what and under which numbers, packet by packet; what is left is arithmetic, SRTP and
 * sendmsg. Nothing here knows a room, a track or a clock. One thread at a time.
 *
 * Packets are sealed when they are given and sent by fan_flush, so that a burst for one subscriber can leave as
 * one datagram train (UDP_SEGMENT): whoever gives them flushes before it does anything else.
 *
 * A destination whose path takes no train gets single packets from then on, all of them where the kernel or the
 * network card takes none.
 *
 * Destinations are ids with a generation: a lane of one that was forgotten sends nothing, to nobody.
 * Packets may be numbered for the whole connection as they leave (twcc.h, which comes before this).
 * Read by the compiler and by cffi: declarations only.
 */

typedef struct fan fan;

/* What a subscriber's copy is made with. Offsets are added, modulo their width. */
typedef struct {
    uint32_t destination, ssrc, timestamp_offset;
    uint16_t sequence_offset;
    uint16_t picture_offset; /* of VP8's 15 bit picture id and of TL0PICIDX; used if shifted */
    uint8_t level_offset, shifted, payload_type;
    uint8_t extension; /* under which the transport-wide number goes, 1 to 14; 0: none */
} fan_lane;

int fan_abi(void); /* of these declarations; whoever loads the library compares it */
fan *fan_new(int (*protect)(void *, void *, int *)); /* NULL: no memory */
void fan_free(fan *all);
/* `context`: libsrtp's, used until fan_forget. `name`: a sockaddr of `size` bytes. 0: there are 4,095, and a lane of
 * 0 sends nothing: whoever got it sends by itself. `history` (NULL: none) is used until fan_forget, too. */
uint32_t fan_destination(fan *all, void *context, int socket, const void *name, int size, twcc *history);
/* What waits for it is not sent any more. */
void fan_forget(fan *all, uint32_t destination);
uint64_t fan_refused(fan *all, uint32_t destination); /* packets that could not be sealed or that the socket did not take */
/* Seal `packet` (12 bytes that are overwritten, then the payload) for each lane; `marker`: 0x80 or 0. */
void fan_packet(fan *all, const fan_lane *lanes, int count, const uint8_t *packet, int size, uint16_t sequence, uint32_t timestamp, uint8_t marker);
void fan_flush(fan *all);
