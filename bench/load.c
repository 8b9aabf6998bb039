/* A load generator for the benchmarks: HTTP/1.1 over kept-alive connections to 127.0.0.1, one process, one epoll.
 *
 *     load --port N [--path P] [--header 'NAME: VALUE']... --body FILE [--connections N] [--seconds S] [--requests N]
 *          [--rate R] [--ramp MS] [--deltas N] [--end TEXT] [--keys FILE [--first-key N]] [--spin]
 *
 * Closed loop: each connection sends its next request when it has the whole of its last answer; --ramp spreads their first
 * requests over that many milliseconds. With --rate, R requests a second are sent at even distances whatever the answers
 * do, and latency counts from the moment at which a request was due, so that a stall is not hidden by waiting for it.
 * No new request is sent after --seconds; those under way are waited for (25 s at most).
 *
 * --keys names a file of one API key a line: each request takes the next of them as its bearer key, from the N-th (0 is the
 * first) and round and round. --spin polls without sleeping (spin.h), so that whoever answers never has to wake this process.
 *
 * An answer is good if its status is 200, its body is whole by its own framing, holds as many deltas of the mock upstream
 * as --deltas says (those of `upstream.c`: "t=" and 19 digits) and has the text of --end among its last 64 bytes. A delta
 * whose time is not later than the last one's is not counted: a Responses stream repeats its text when a part ends.
 * Anything else is counted in "failed", and the first one is shown. The result is one JSON object on stdout; times are in
 * microseconds: "latency" to the end of the answer, "head" to its first byte, "first_delta" to the first delta, and
 * "delay" from the upstream's making of a delta to its arrival here.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "spin.h"

#define TAIL 64
#define DIGITS 19
#define PATIENCE 25000000000LL

enum state { IDLE, CONNECTING, SENDING, WAITING, HEAD, BODY };
enum framing { BY_LENGTH, BY_CHUNKS, BY_CLOSE };
enum chunk_part { SIZE, EXTENSION, DATA, DATA_END, TRAILER };

struct connection {
    int fd;
    enum state state;
    size_t sent;
    int64_t not_before, started, first_byte;
    bool reused, retried, close_after;
    char *head;
    size_t head_length, head_capacity;
    int status;
    enum framing framing;
    enum chunk_part part;
    int64_t left; /* bytes of the body, or of the chunk, still to come */
    long deltas;
    int digits;   /* of the time stamp being read; -1 outside one */
    int64_t stamp, last_stamp;
    const char *key;
    char tail[TAIL];
    size_t tail_length;
};

struct samples { /* tenths of microseconds */
    uint32_t *values;
    size_t count, capacity;
};

static struct {
    int port, connections, ramp_ms;
    long requests, deltas;
    double seconds, rate;
    const char *path, *body_file, *end, *keys_file;
    long first_key;
    bool spin;
} options = {.connections = 1, .seconds = 5, .deltas = -1, .path = "/"};

static struct samples latency, head_time, first_delta, delay;
static long good, failed, started, reconnects, deltas_total, missed;
static int64_t bytes_total;
static char first_failure[400];
static char *request;
static size_t request_length, key_place; /* where in the request the key stands, if there are several */
static char *keys;
static size_t key_length, key_count, next_key;
static int poller;
static struct sockaddr_in address;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- samples ---- */

static void add(struct samples *s, int64_t nanoseconds)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity * 2 + 65536;
        s->values = realloc(s->values, s->capacity * sizeof *s->values);
        if (!s->values) abort();
    }
    int64_t tenths = nanoseconds / 100;
    s->values[s->count++] = tenths < 0 ? 0 : tenths > UINT32_MAX ? UINT32_MAX : (uint32_t)tenths;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(const struct samples *s, double q) { return s->values[(size_t)(q * (double)(s->count - 1) + .5)] / 10.0; }

static void print_samples(const char *name, struct samples *s)
{
    if (!s->count) return;
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) sum += s->values[i];
    qsort(s->values, s->count, sizeof *s->values, by_value);
    printf(", \"%s\": {\"mean\": %.1f, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"max\": %.1f}", name,
           sum / (double)s->count / 10.0, quantile(s, .5), quantile(s, .9), quantile(s, .99), quantile(s, 1));
}

/* ---- the life of a request ---- */

static void disconnect(struct connection *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void note_failure(const struct connection *c, const char *why)
{
    failed++;
    if (first_failure[0]) return;
    int n = snprintf(first_failure, sizeof first_failure, "%s, status %d, %ld deltas: ", why, c->status, c->deltas);
    const char *text = c->state == BODY || c->status ? c->tail : c->head;
    size_t length = c->state == BODY || c->status ? c->tail_length : c->head_length;
    for (size_t i = 0; i < length && n < (int)sizeof first_failure - 1; i++) {
        unsigned char ch = (unsigned char)text[i];
        first_failure[n++] = ch < 32 || ch > 126 || ch == '"' || ch == '\\' ? ' ' : (char)ch;
    }
    first_failure[n] = 0;
}

static void fail(struct connection *c, const char *why)
{
    note_failure(c, why);
    c->state = IDLE;
    disconnect(c);
}

static void finish(struct connection *c, int64_t t)
{
    const char *why = NULL;
    if (c->status != 200) why = "status";
    else if (options.deltas >= 0 && c->deltas != options.deltas) why = "deltas missing";
    else if (options.end && !memmem(c->tail, c->tail_length, options.end, strlen(options.end))) why = "end missing";
    if (why) {
        note_failure(c, why);
    } else {
        good++;
        deltas_total += c->deltas;
        add(&latency, t - c->started);
        add(&head_time, c->first_byte - c->started);
    }
    c->state = IDLE;
    if (c->close_after || why) disconnect(c);
}

static void open_connection(struct connection *c)
{
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        perror("load: socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->reused = false;
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        fail(c, "connect");
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

/* All keys are of one length, so the key of this connection's request is written over that of the last one sent. */
static void send_request(struct connection *c)
{
    c->state = SENDING;
    if (c->key) memcpy(request + key_place, c->key, key_length);
    while (c->sent < request_length) {
        ssize_t n = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL);
        if (n < 0) return; /* EAGAIN: EPOLLOUT comes; anything else: the read side says it */
        c->sent += (size_t)n;
    }
    c->state = WAITING;
}

static void begin(struct connection *c, int64_t due)
{
    started++;
    c->started = due;
    c->sent = c->head_length = c->tail_length = 0;
    c->status = 0;
    c->deltas = 0;
    c->digits = -1;
    c->last_stamp = 0;
    c->retried = c->close_after = false;
    if (key_count) {
        c->key = keys + (key_length + 1) * next_key;
        next_key = (next_key + 1) % key_count;
    }
    if (c->fd < 0) {
        open_connection(c);
        return;
    }
    c->reused = true;
    send_request(c);
}

/* ---- reading ---- */

static void count_deltas(struct connection *c, const char *data, size_t n, int64_t t)
{
    for (const char *end = data + n; data < end;) {
        if (c->digits < 0) { /* '=' is nowhere else in what the upstream sends */
            data = memchr(data, '=', (size_t)(end - data));
            if (!data) return;
            data++;
            c->digits = 0;
            c->stamp = 0;
        } else if (*data >= '0' && *data <= '9') {
            c->stamp = c->stamp * 10 + (*data++ - '0');
            if (++c->digits < DIGITS) continue;
            c->digits = -1;
            if (c->stamp <= c->last_stamp) continue;
            c->last_stamp = c->stamp;
            add(&delay, t - c->stamp);
            if (!c->deltas++) add(&first_delta, t - c->started);
        } else {
            c->digits = -1;
        }
    }
}

static void take_body(struct connection *c, const char *data, size_t n, int64_t t)
{
    bytes_total += (int64_t)n;
    if (options.deltas >= 0) count_deltas(c, data, n, t);
    if (n >= TAIL) {
        memcpy(c->tail, data + n - TAIL, TAIL);
        c->tail_length = TAIL;
        return;
    }
    size_t kept = c->tail_length + n > TAIL ? TAIL - n : c->tail_length;
    memmove(c->tail, c->tail + c->tail_length - kept, kept);
    memcpy(c->tail + kept, data, n);
    c->tail_length = kept + n;
}

/* Consume what belongs to the head; returns the number of bytes taken from `data`. */
static size_t take_head(struct connection *c, const char *data, size_t n, int64_t t)
{
    if (!c->head_length) c->first_byte = t;
    if (c->head_length + n > c->head_capacity) {
        c->head_capacity = (c->head_length + n) * 2 + 4096;
        c->head = realloc(c->head, c->head_capacity);
        if (!c->head) abort();
    }
    memcpy(c->head + c->head_length, data, n);
    size_t before = c->head_length;
    c->head_length += n;
    char *blank = memmem(c->head, c->head_length, "\r\n\r\n", 4);
    if (!blank) return n;
    c->status = atoi(c->head + 9);
    c->framing = BY_CLOSE;
    for (char *line = c->head; line < blank;) {
        char *eol = memchr(line, '\n', (size_t)(blank + 2 - line));
        if (!eol) break;
        if (!strncasecmp(line, "content-length:", 15)) {
            c->framing = BY_LENGTH;
            c->left = atoll(line + 15);
        } else if (!strncasecmp(line, "transfer-encoding:", 18)) {
            c->framing = BY_CHUNKS;
            c->part = SIZE;
            c->left = 0;
        } else if (!strncasecmp(line, "connection: close", 17)) {
            c->close_after = true;
        }
        line = eol + 1;
    }
    c->state = BODY;
    return (size_t)(blank + 4 - c->head) - before;
}

static int hex(char ch)
{
    if (ch >= '0' && ch <= '9') return ch - '0';
    ch |= 32;
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static void take_chunked(struct connection *c, const char *data, size_t n, int64_t t)
{
    for (const char *end = data + n; data < end && c->state == BODY;) {
        if (c->part == DATA) {
            size_t k = (size_t)(end - data) < (size_t)c->left ? (size_t)(end - data) : (size_t)c->left;
            take_body(c, data, k, t);
            data += k;
            c->left -= (int64_t)k;
            if (!c->left) c->part = DATA_END;
            continue;
        }
        char ch = *data++;
        if (ch == '\n') {
            if (c->part == TRAILER) finish(c, t); /* no trailers are expected: the first line there ends the body */
            else if (c->part == DATA_END) c->part = SIZE;
            else c->part = c->left ? DATA : TRAILER;
        } else if (c->part == SIZE) {
            int digit = hex(ch);
            if (digit >= 0) c->left = c->left * 16 + digit;
            else if (ch == ';') c->part = EXTENSION;
        }
    }
}

static void take(struct connection *c, const char *data, size_t n, int64_t t)
{
    if (c->state == IDLE || c->state == CONNECTING) {
        fail(c, "bytes that were not asked for");
        return;
    }
    if (c->state == WAITING || c->state == SENDING) c->state = HEAD;
    if (c->state == HEAD) {
        size_t used = take_head(c, data, n, t);
        data += used;
        n -= used;
        if (c->state != BODY) return;
        if (c->framing == BY_LENGTH && !c->left) {
            finish(c, t);
            return;
        }
    }
    if (!n) return;
    if (c->framing == BY_CHUNKS) {
        take_chunked(c, data, n, t);
        return;
    }
    take_body(c, data, n, t);
    if (c->framing == BY_LENGTH && (c->left -= (int64_t)n) <= 0) finish(c, t);
}

static void closed_by_peer(struct connection *c)
{
    if (c->state == BODY && c->framing == BY_CLOSE) {
        c->close_after = true;
        finish(c, now());
    } else if (c->state == IDLE) {
        disconnect(c);
    } else if (c->reused && !c->retried && c->state <= WAITING) { /* closed while idle: what every client does about it */
        reconnects++;
        disconnect(c);
        c->sent = 0;
        c->retried = true;
        open_connection(c);
    } else {
        fail(c, "cut");
    }
}

/* ---- main ---- */

static bool may_begin(int64_t t, int64_t deadline)
{
    return t < deadline && (!options.requests || started < options.requests);
}

static void receive(struct connection *c, uint32_t events, int64_t deadline)
{
    static char data[262144];
    while (c->fd >= 0) {
        ssize_t n = recv(c->fd, data, sizeof data, 0);
        if (n > 0) {
            int64_t t = now();
            take(c, data, (size_t)n, t);
            if (c->state == IDLE && options.rate <= 0 && may_begin(t, deadline)) begin(c, t);
            if ((size_t)n < sizeof data && !(events & (EPOLLRDHUP | EPOLLHUP))) return;
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else {
            closed_by_peer(c);
            return;
        }
    }
}

static void on_events(struct connection *c, uint32_t events, int64_t deadline)
{
    if (c->fd < 0) return;
    if (c->state == CONNECTING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            fail(c, strerror(error));
            return;
        }
        send_request(c);
    } else if (c->state == SENDING && events & EPOLLOUT) {
        send_request(c);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) receive(c, events, deadline);
}

/* Start the requests that are due; returns how many nanoseconds later the next is, -1 if none is planned. */
static int64_t begin_due(struct connection *connections, int64_t origin, int64_t deadline, int64_t t)
{
    static long issued;
    int64_t next = -1;
    if (!may_begin(t, deadline)) return -1;
    if (options.rate <= 0) {
        for (int i = 0; i < options.connections && may_begin(t, deadline); i++) {
            struct connection *c = &connections[i];
            if (c->state != IDLE) continue;
            int64_t wait = c->not_before - t;
            if (wait <= 0) begin(c, t);
            else if (next < 0 || wait < next) next = wait;
        }
        return next;
    }
    for (int i = 0;; issued++) {
        int64_t due = origin + (int64_t)((double)issued * 1e9 / options.rate);
        if (due > t) return due - t;
        while (i < options.connections && connections[i].state != IDLE) i++;
        if (i == options.connections) { /* sent as soon as one is free, its latency counted from `due` */
            missed++;
            return -1;
        }
        if (!may_begin(due, deadline)) return -1;
        begin(&connections[i], due);
    }
}

static int busy(const struct connection *connections)
{
    int n = 0;
    for (int i = 0; i < options.connections; i++) n += connections[i].state != IDLE;
    return n;
}

static void run(struct connection *connections, int64_t origin)
{
    static struct epoll_event events[1024];
    int64_t deadline = origin + (int64_t)(options.seconds * 1e9);
    for (;;) {
        int64_t t = now();
        int64_t wait = begin_due(connections, origin, deadline, t);
        if (wait < 0 && !busy(connections)) return;
        if (t > deadline + PATIENCE) {
            for (int i = 0; i < options.connections; i++)
                if (connections[i].state != IDLE) fail(&connections[i], "unanswered long after the end");
            return;
        }
        if (wait < 0 || wait > 100000000) wait = 100000000;
        struct timespec limit = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        int n = await_events(poller, events, 1024, &limit, options.spin);
        for (int i = 0; i < n; i++) on_events(events[i].data.ptr, events[i].events, deadline);
    }
}

static void read_options(int argc, char **argv, char *headers, size_t room)
{
    static const struct option known[] = {
        {"port", 1, 0, 'p'},    {"path", 1, 0, 'P'},     {"header", 1, 0, 'H'}, {"body", 1, 0, 'b'},
        {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'},  {"requests", 1, 0, 'n'}, {"rate", 1, 0, 'r'},
        {"ramp", 1, 0, 'R'},    {"deltas", 1, 0, 'd'},   {"end", 1, 0, 'e'},
        {"keys", 1, 0, 'k'},    {"first-key", 1, 0, 'f'}, {"spin", 0, 0, 'S'},    {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        size_t used = strlen(headers);
        switch (o) {
        case 'p': options.port = atoi(optarg); break;
        case 'P': options.path = optarg; break;
        case 'H': snprintf(headers + used, room - used, "%s\r\n", optarg); break;
        case 'b': options.body_file = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'n': options.requests = atol(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'R': options.ramp_ms = atoi(optarg); break;
        case 'd': options.deltas = atol(optarg); break;
        case 'e': options.end = optarg; break;
        case 'k': options.keys_file = optarg; break;
        case 'f': options.first_key = atol(optarg); break;
        case 'S': options.spin = true; break;
        default: exit(2);
        }
    }
    if (!options.port || !options.body_file || options.connections < 1) {
        fprintf(stderr, "load: --port and --body are needed\n");
        exit(2);
    }
}

/* The whole of a file, with room for `before` bytes before it. */
static char *read_file(const char *name, size_t before, size_t *length)
{
    FILE *file = fopen(name, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        perror(name);
        exit(2);
    }
    *length = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(before + *length + 1);
    if (!data) abort();
    if (fread(data + before, 1, *length, file) != *length) {
        perror(name);
        exit(2);
    }
    fclose(file);
    return data;
}

static void read_keys(char *headers, size_t room)
{
    size_t length, used = strlen(headers);
    keys = read_file(options.keys_file, 0, &length);
    char *eol = memchr(keys, '\n', length);
    key_length = eol ? (size_t)(eol - keys) : 0;
    key_count = length / (key_length + 1);
    if (!key_length || key_count * (key_length + 1) != length) {
        fprintf(stderr, "load: --keys wants lines of one length\n");
        exit(2);
    }
    for (size_t i = 0; i < key_count; i++) keys[i * (key_length + 1) + key_length] = 0;
    next_key = (size_t)options.first_key % key_count;
    snprintf(headers + used, room - used, "authorization: Bearer %s\r\n", keys);
}

static void build_request(const char *headers)
{
    size_t length;
    request = read_file(options.body_file, 65536, &length);
    char *body = request + 65536;
    request_length = (size_t)snprintf(request, 65536,
                                      "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nuser-agent: penstock-bench/1\r\naccept: */*\r\n"
                                      "%scontent-type: application/json\r\ncontent-length: %zu\r\n\r\n",
                                      options.path, options.port, headers, length);
    if (key_count) key_place = (size_t)((char *)memmem(request, request_length, keys, key_length) - request);
    memmove(request + request_length, body, length);
    request_length += length;
}

int main(int argc, char **argv)
{
    static char headers[32768];
    signal(SIGPIPE, SIG_IGN);
    read_options(argc, argv, headers, sizeof headers);
    if (options.keys_file) read_keys(headers, sizeof headers);
    build_request(headers);
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)options.port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct connection *connections = calloc((size_t)options.connections, sizeof *connections);
    if (!connections) abort();
    int64_t origin = now();
    for (int i = 0; i < options.connections; i++) {
        connections[i].fd = -1;
        connections[i].not_before = origin + (int64_t)options.ramp_ms * 1000000 * i / options.connections;
    }
    run(connections, origin);
    double seconds = (double)(now() - origin) / 1e9;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"connections\": %d, \"seconds\": %.3f, \"good\": %ld, \"failed\": %ld, \"reconnects\": %ld, \"missed\": %ld, "
           "\"deltas\": %ld, \"bytes\": %lld, \"own_cpu_seconds\": %.3f, \"first_failure\": \"%s\"",
           options.connections, seconds, good, failed, reconnects, missed, deltas_total, (long long)bytes_total,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
           first_failure);
    print_samples("latency", &latency);
    print_samples("head", &head_time);
    print_samples("first_delta", &first_delta);
    print_samples("delay", &delay);
    printf("}\n");
    return 0;
}
