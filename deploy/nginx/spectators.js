// What nginx checks before it serves a file of a broadcast: the same as web/live.py and
// models/spectator_addresses.py, and tested side by side with them. Knows the key of the spectators' addresses
// and no other; says to nobody who watches.
import crypto from 'crypto';
import fs from 'fs';

const MAC_BYTES = 16;
const LONGEST = 120;
const TIERS = ['free', 'premium'];
const RUNGS = { free: ['480p', '240p', 'audio'], premium: ['720p', '480p', '240p', 'audio'] };
const ADDRESS = /^\/live\/([^\/]+)\/([^\/]+)\/([^\/]+)\/([\s\S]*)$/;
const NAME = /^[A-Za-z0-9_-]+$/;
const PICTURE = /^(poster\.jpg|storyboard\.vtt|storyboard_[0-9_]{1,20}\.jpg)$/;
const MEDIA = /^([0-9a-z]{1,8})\/(index\.m3u8|init_[0-9]{1,9}\.mp4|s[0-9]{5,12}_[0-9]{1,9}(\.p[0-9]{1,3})?\.m4s)$/;
const RUNGS_PLAYLIST = /^[0-9a-z]{1,8}\/index\.m3u8$/;
const PART = /\.p[0-9]+\.m4s$/;
const NUMBER = /^[0-9]{1,9}$/;
const FOR_GOOD = /\.(mp4|m4s)$/;
// As long as an address of object storage works after this, its holder has to use it.
const USABLE_MS = 60000;
const PLAYLIST = /\.(m3u8|mpd)$/;
const TITLES = {
    400: 'Bad Request', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 503: 'Service Unavailable'
};
// Blocking reload (rfc8216bis, 6.2.5.2), with LOW_LATENCY_HLS alone; the numbers are those of models/live_edge.py.
// A request that waits holds a connection and a timer here, and no thread of anybody's.
const LOOK_MS = 50;
const LONGEST_WAIT_MS = 6000;
const PART_WAIT_MS = 1500;
const MOST_AHEAD = 1;
// What nginx says of a viewer who has too many that wait (limit_conn in greenroom.conf): this one does not.
const TOO_MANY = 'REJECTED_DRY_RUN';

function key(r) {
    return Buffer.from(r.variables.spectators_key, 'hex');
}

function hmac(r, text) {
    return crypto.createHmac('sha256', key(r)).update(text);
}

// Takes as long wherever the first difference is.
function same(one, other) {
    let difference = one.length ^ other.length;
    for (let i = 0; i < one.length; i++) {
        difference |= one.charCodeAt(i) ^ other.charCodeAt(i % (other.length || 1));
    }
    return difference === 0;
}

function refuse(r, status, code, detail) {
    r.headersOut['Content-Type'] = 'application/problem+json';
    r.headersOut['Cache-Control'] = 'no-store';
    r.headersOut['X-Content-Type-Options'] = 'nosniff';
    r.return(status, JSON.stringify({
        type: 'about:blank', title: TITLES[status], status: status, code: code, detail: detail
    }));
}

// Who the signed part speaks of, or the reason why nobody.
function verify(r, room, broadcast, signed) {
    const words = signed.split('.');
    if (signed.length > LONGEST || words.length !== 4 || !/^[0-9]+$/.test(words[0])) {
        return { code: 'FORBIDDEN', detail: 'This is not an address of ours.' };
    }
    const mac = words.pop();
    const text = `${room}/${broadcast}/${words.join('.')}`;
    if (!same(hmac(r, text).digest().slice(0, MAC_BYTES).toString('base64url'), mac)) {
        return { code: 'FORBIDDEN', detail: 'This address is not ours, or for another stream.' };
    }
    if (TIERS.indexOf(words[1]) < 0 || !NAME.test(broadcast) || !NAME.test(words[2])) {
        return { code: 'FORBIDDEN', detail: 'This address is for a tier that there is no more.' };
    }
    if (Date.now() >= Number(words[0]) * 1000) {
        return { code: 'ADDRESS_EXPIRED', detail: 'This address has expired.' };
    }
    return { tier: words[1], viewer: words[2] };
}

// The file behind a name for this tier: '' when there is none, null when it is for another tier.
function permitted(name, tier) {
    // To njs, $ is also before a line feed at the end.
    if (/[^\x21-\x7e]/.test(name)) {
        return '';
    }
    if (name === 'master.m3u8') {
        return `master.${tier}.m3u8`;
    }
    if (name === 'manifest.mpd') {
        return `manifest.${tier}.mpd`;
    }
    if (PICTURE.test(name)) {
        return name;
    }
    const media = MEDIA.exec(name);
    if (media === null) {
        return '';
    }
    return RUNGS[tier].indexOf(media[1]) < 0 ? null : name;
}

// What stands at a path, or undefined. Without an exception: one costs njs ten times as much as all the rest here.
function look(path) {
    return fs.statSync(path, { throwIfNoEntry: false });
}

// Where object storage has a file that never changes, or null: as models/live_files.py.
function storedAt(r, broadcast, file) {
    if (!r.variables.stored_dir || !FOR_GOOD.test(file)) {
        return null;
    }
    const path = `${r.variables.stored_dir}/${broadcast}/${file}`;
    const found = look(path);
    if (found === undefined || Date.now() - found.mtimeMs > USABLE_MS) {
        return null;
    }
    try {
        return fs.readFileSync(path, 'utf8');
    } catch (error) {
        return null;
    }
}

// Who plays, as one word that leads to no address: its network (IPv4 /24, IPv6 /64) and player, as models/sharing.py.
function device(r) {
    const address = r.rawVariables.binary_remote_addr;
    const agent = r.rawVariables.http_user_agent || Buffer.from('');
    const network = address.slice(0, address.length === 4 ? 3 : 8).toString('hex');
    return hmac(r, `device\n${network}\n`).update(agent).digest('hex').slice(0, 16);
}

// How far a playlist is: the segment being written, how many parts of it are there, and whether it is all.
function edgeOf(playlist) {
    const first = /#EXT-X-MEDIA-SEQUENCE:([0-9]+)/.exec(playlist);
    const segments = playlist.split('#EXTINF:');
    const rest = segments[segments.length - 1];
    return {
        segment: Number(first[1]) + segments.length - 1,
        parts: rest.split('#EXT-X-PART:').length - 1,
        ended: rest.indexOf('#EXT-X-ENDLIST') >= 0
    };
}

function has(edge, wish) {
    return edge.ended || edge.segment > wish.segment ||
        (wish.part !== null && edge.segment === wish.segment && edge.parts > wish.part);
}

// What a player waits for, null for nothing, undefined for what nobody may wait for.
function wishOf(r) {
    const segment = r.args._HLS_msn;
    const part = r.args._HLS_part;
    if (segment === undefined) {
        return part === undefined ? null : undefined;
    }
    if (!NUMBER.test(segment) || (part !== undefined && !NUMBER.test(part))) {
        return undefined;
    }
    return { segment: Number(segment), part: part === undefined ? null : Number(part) };
}

function waitForPart(path, until, go) {
    if (look(path) !== undefined || Date.now() >= until) {
        go();
        return;
    }
    setTimeout(waitForPart, LOOK_MS, path, until, go);
}

function waitForPlaylist(r, path, wish, until, seen, go) {
    const found = look(path);
    if (found === undefined) {
        go();
        return;
    }
    if (found.mtimeMs !== seen && has(edgeOf(fs.readFileSync(path, 'utf8')), wish)) {
        go();
        return;
    }
    if (Date.now() >= until) {
        refuse(r, 503, 'UNAVAILABLE', 'The playlist has not grown.');
        return;
    }
    setTimeout(waitForPlaylist, LOOK_MS, r, path, wish, until, found.mtimeMs, go);
}

// Whom a request is counted for while it waits: the viewer, whatever addresses were signed for them. Empty for what
// waits for nothing, and for addresses that are not ours, so that nobody takes another's places.
function waiter(r) {
    if (!r.variables.low_latency || (r.args._HLS_msn === undefined && !PART.test(r.uri))) {
        return '';
    }
    const parts = ADDRESS.exec(r.uri);
    const whom = parts === null ? {} : verify(r, parts[1], parts[2], parts[3]);
    return whom.viewer ? `${parts[2]} ${whom.viewer}` : '';
}

// Call `go` when what a low-latency player waits for is there, or refuse.
function wait(r, path, file, go) {
    const full = r.variables.limit_conn_status === TOO_MANY;
    if (PART.test(file)) {
        if (full) {
            go();
            return;
        }
        waitForPart(path, Date.now() + PART_WAIT_MS, go);
        return;
    }
    const wish = RUNGS_PLAYLIST.test(file) ? wishOf(r) : null;
    if (wish === undefined) {
        refuse(r, 400, 'BAD_REQUEST', 'No player may wait for that.');
    } else if (wish === null || look(path) === undefined) {
        go();
    } else if (wish.segment > edgeOf(fs.readFileSync(path, 'utf8')).segment + MOST_AHEAD) {
        refuse(r, 400, 'BAD_REQUEST', 'No player may wait for that.');
    } else if (full) {
        go();
    } else {
        waitForPlaylist(r, path, wish, Date.now() + LONGEST_WAIT_MS, 0, go);
    }
}

function serve(r) {
    if (r.method !== 'GET' && r.method !== 'HEAD') {
        refuse(r, 405, 'METHOD_NOT_ALLOWED', 'The address exists and does not take this method.');
        return;
    }
    const parts = ADDRESS.exec(r.uri);
    if (parts === null) {
        refuse(r, 404, 'NOT_FOUND', 'There is no such file.');
        return;
    }
    const broadcast = parts[2];
    const whom = verify(r, parts[1], broadcast, parts[3]);
    if (whom.code) {
        refuse(r, 403, whom.code, whom.detail);
        return;
    }
    if (look(`${r.variables.hls_dir}/barred/${broadcast}.${whom.viewer}`) !== undefined) {
        refuse(r, 403, 'BARRED', 'You may not watch this stream any more.');
        return;
    }
    const file = permitted(parts[4], whom.tier);
    if (file === null) {
        refuse(r, 403, 'PREMIUM_ONLY', 'This quality is for subscribers.');
        return;
    }
    if (file === '') {
        refuse(r, 404, 'NOT_FOUND', 'There is no such file.');
        return;
    }
    const elsewhere = storedAt(r, broadcast, file);
    if (elsewhere !== null) {
        r.headersOut['Cache-Control'] = 'no-store';
        r.headersOut['Access-Control-Allow-Origin'] = '*';
        r.return(302, elsewhere);
        return;
    }
    if (PLAYLIST.test(file)) {
        r.variables.live_player = `${broadcast} ${whom.viewer} ${device(r)}`;
    }
    const go = () => r.internalRedirect(`/_broadcasts/${broadcast}/${file}`);
    if (r.variables.low_latency) {
        wait(r, `${r.variables.hls_dir}/${broadcast}/${file}`, file, go);
    } else {
        go();
    }
}

export default { serve, waiter };
