/* A mock LLM upstream for the benchmarks: OpenAI chat and Responses, and Anthropic messages, as JSON and as event streams.
 *
 *     upstream PORT [KEY [spin]]
 *
 * One process, one epoll, no allocation per request once warm, so that it is never what is measured. It listens on
 * 127.0.0.1. Where KEY is given, a request whose head does not hold it is answered 401: a gateway that forwards the
 * caller's key instead of the operator's fails at once instead of looking fast. With `spin` it polls without sleeping
 * (spin.h), so that a gateway never has to wake it.
 *
 * The request's "model" says how the answer behaves, by any of these at any place in the name:
 *
 *     -nN   N text deltas in a stream (200 if absent)
 *     -gMS  MS milliseconds between two deltas (0: as fast as the reader takes them, streams taking turns)
 *     -dMS  MS milliseconds before the answer starts
 *
 * Each delta is one HTTP chunk and one send(), as the vendors do it, and its text is "t=" and the monotonic clock in
 * nanoseconds as 19 digits: a reader on the same machine has the one-way delay of every delta from that.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "spin.h"

enum dialect { CHAT, MESSAGES, RESPONSES };
enum stage { IDLE, JSON_LATER, STREAM_LATER, STREAMING };

struct buffer {
    char *data;
    size_t length, capacity;
};

struct connection {
    int fd;
    bool dead, blocked;     /* blocked: the socket is full, EPOLLOUT is awaited and the timer is stopped */
    struct buffer in, out;
    struct buffer said;     /* Responses: the text so far, which is repeated when a part ends */
    size_t sent;            /* of out */
    enum stage stage;
    enum dialect dialect;
    bool usage;             /* chat: stream_options.include_usage was asked for */
    int deltas, made, events;
    int64_t gap, due;       /* nanoseconds; due on the monotonic clock */
    size_t place;           /* in timers, NO_PLACE if none runs */
};

#define NO_PLACE SIZE_MAX
#define TEXT                                                                                                           \
    "The quick brown fox jumps over the lazy dog. This answer has a few sentences so that the payload has a "          \
    "realistic size; it is repeated to make about a hundred tokens of text. The quick brown fox jumps over the lazy "  \
    "dog. This answer has a few sentences so that the payload has a realistic size."

static int poller;
static const char *expected_key;
static struct buffer chat_json, messages_json, responses_json, unauthorized, not_found;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void append(struct buffer *b, const char *data, size_t n)
{
    if (b->length + n > b->capacity) {
        b->capacity = (b->length + n) * 2 + 4096;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) abort();
    }
    memcpy(b->data + b->length, data, n);
    b->length += n;
}

static void append_text(struct buffer *b, const char *text) { append(b, text, strlen(text)); }

/* ---- timers: a binary heap by due time ---- */

static struct connection **timers;
static size_t timer_count, timer_capacity;

static void seat(struct connection *c, size_t place)
{
    timers[place] = c;
    c->place = place;
}

static void sift_up(struct connection *c, size_t place)
{
    while (place && timers[(place - 1) / 2]->due > c->due) {
        seat(timers[(place - 1) / 2], place);
        place = (place - 1) / 2;
    }
    seat(c, place);
}

static void sift_down(struct connection *c, size_t place)
{
    for (;;) {
        size_t child = place * 2 + 1;
        if (child >= timer_count) break;
        if (child + 1 < timer_count && timers[child + 1]->due < timers[child]->due) child++;
        if (timers[child]->due >= c->due) break;
        seat(timers[child], place);
        place = child;
    }
    seat(c, place);
}

static void timer_start(struct connection *c)
{
    if (timer_count == timer_capacity) {
        timer_capacity = timer_capacity * 2 + 1024;
        timers = realloc(timers, timer_capacity * sizeof *timers);
        if (!timers) abort();
    }
    sift_up(c, timer_count++);
}

static void timer_stop(struct connection *c)
{
    if (c->place == NO_PLACE) return;
    size_t place = c->place;
    c->place = NO_PLACE;
    struct connection *last = timers[--timer_count];
    if (last == c) return;
    if (place && timers[(place - 1) / 2]->due > last->due) sift_up(last, place);
    else sift_down(last, place);
}

/* ---- writing ---- */

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poller, operation, c->fd, &event);
}

static void flush(struct connection *c)
{
    while (c->sent < c->out.length) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!c->blocked) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->blocked = true;
            timer_stop(c);
            return;
        }
        if (n < 0) {
            c->dead = true;
            return;
        }
        c->sent += (size_t)n;
    }
    c->sent = c->out.length = 0;
    if (c->blocked) {
        c->blocked = false;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        if (c->stage != IDLE) timer_start(c);
    }
}

static void append_chunk(struct connection *c, const char *data, int n)
{
    char size[24];
    append(&c->out, size, (size_t)snprintf(size, sizeof size, "%x\r\n", (unsigned)n));
    append(&c->out, data, (size_t)n);
    append(&c->out, "\r\n", 2);
}

static void append_event(struct connection *c, const char *event) { append_chunk(c, event, (int)strlen(event)); }

static void append_chat_chunk(struct connection *c, const char *choices, const char *usage)
{
    char event[1024];
    int n = snprintf(event, sizeof event,
                     "data: {\"id\":\"chatcmpl-mock0123456789\",\"object\":\"chat.completion.chunk\","
                     "\"created\":1764000000,\"model\":\"gpt-4o-2024-11-20\",\"service_tier\":\"default\","
                     "\"system_fingerprint\":\"fp_mock\",\"choices\":[%s]%s}\n\n",
                     choices, usage);
    append_chunk(c, event, n);
}

static void append_chat_delta(struct connection *c, const char *delta, const char *finish)
{
    char choice[256];
    snprintf(choice, sizeof choice, "{\"index\":0,\"delta\":{%s},\"logprobs\":null,\"finish_reason\":%s}", delta, finish);
    append_chat_chunk(c, choice, c->usage ? ",\"usage\":null" : "");
}

/* ---- Responses: each event has its number, and each end of a part, of an item and of the whole repeats the text ---- */

#define RESPONSE "\"id\":\"resp_mock0123456789\",\"object\":\"response\",\"created_at\":1764000000,\"model\":\"gpt-5-2025-08-07\","
#define PLACE "\"item_id\":\"msg_mock0123456789\",\"output_index\":0,\"content_index\":0,"
#define ITEM "\"id\":\"msg_mock0123456789\",\"type\":\"message\",\"role\":\"assistant\","
#define PART "\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":"
#define USAGE                                                                                                          \
    "\"usage\":{\"input_tokens\":412,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":%d,"                  \
    "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":%d}"

/* One event; `before` and `after` are the members around the quoted text said so far (NULL: none of it). */
static void append_response_event(struct connection *c, const char *type, const char *before, const char *after)
{
    static struct buffer event;
    char head[256];
    event.length = 0;
    append(&event, head, (size_t)snprintf(head, sizeof head, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d,",
                                          type, type, c->events++));
    append_text(&event, before);
    if (after) {
        append_text(&event, "\"");
        append(&event, c->said.data, c->said.length);
        append_text(&event, "\"");
        append_text(&event, after);
    }
    append_text(&event, "}\n\n");
    append_chunk(c, event.data, (int)event.length);
}

static void begin_response(struct connection *c)
{
    c->events = 0;
    c->said.length = 0;
    append_response_event(c, "response.created",
                          "\"response\":{" RESPONSE "\"status\":\"in_progress\",\"output\":[],\"usage\":null,\"error\":null}", NULL);
    append_response_event(c, "response.in_progress",
                          "\"response\":{" RESPONSE "\"status\":\"in_progress\",\"output\":[],\"usage\":null,\"error\":null}", NULL);
    append_response_event(c, "response.output_item.added",
                          "\"output_index\":0,\"item\":{" ITEM "\"status\":\"in_progress\",\"content\":[]}", NULL);
    append_response_event(c, "response.content_part.added", PLACE "\"part\":{" PART "\"\"}", NULL);
}

static void append_response_delta(struct connection *c)
{
    char text[64], members[256];
    append(&c->said, text, (size_t)snprintf(text, sizeof text, "t=%019lld ", (long long)now()));
    snprintf(members, sizeof members, PLACE "\"delta\":\"%s\",\"logprobs\":[]", text);
    append_response_event(c, "response.output_text.delta", members, NULL);
}

static void end_response(struct connection *c)
{
    char rest[512];
    append_response_event(c, "response.output_text.done", PLACE "\"logprobs\":[],\"text\":", "");
    append_response_event(c, "response.content_part.done", PLACE "\"part\":{" PART, "}");
    append_response_event(c, "response.output_item.done",
                          "\"output_index\":0,\"item\":{" ITEM "\"status\":\"completed\",\"content\":[{" PART, "}]}");
    snprintf(rest, sizeof rest, "}]}],\"error\":null," USAGE "}", c->deltas, c->deltas + 412);
    append_response_event(c, "response.completed",
                          "\"response\":{" RESPONSE "\"status\":\"completed\",\"output\":[{" ITEM
                          "\"status\":\"completed\",\"content\":[{" PART, rest);
}

static void begin_stream(struct connection *c)
{
    append_text(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
                         "x-request-id: req_mock0123456789\r\ntransfer-encoding: chunked\r\n\r\n");
    if (c->dialect == CHAT) {
        append_chat_delta(c, "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null", "null");
        return;
    }
    if (c->dialect == RESPONSES) {
        begin_response(c);
        return;
    }
    append_event(c, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5\","
                    "\"id\":\"msg_mock0123456789\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],"
                    "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":412,"
                    "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":1,"
                    "\"service_tier\":\"standard\"}}}\n\n");
    append_event(c, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
                    "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    append_event(c, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}

static void append_delta(struct connection *c)
{
    char text[512];
    if (c->dialect == CHAT) {
        snprintf(text, sizeof text, "\"content\":\"t=%019lld \"", (long long)now());
        append_chat_delta(c, text, "null");
        return;
    }
    if (c->dialect == RESPONSES) {
        append_response_delta(c);
        return;
    }
    append_chunk(c, text,
                 snprintf(text, sizeof text,
                          "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
                          "\"delta\":{\"type\":\"text_delta\",\"text\":\"t=%019lld \"}}\n\n",
                          (long long)now()));
}

static void end_stream(struct connection *c)
{
    char text[512];
    if (c->dialect == CHAT) {
        append_chat_delta(c, "", "\"stop\"");
        if (c->usage) {
            snprintf(text, sizeof text,
                     ",\"usage\":{\"prompt_tokens\":412,\"completion_tokens\":%d,\"total_tokens\":%d,"
                     "\"prompt_tokens_details\":{\"cached_tokens\":0},"
                     "\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
                     c->deltas, c->deltas + 412);
            append_chat_chunk(c, "", text);
        }
        append_event(c, "data: [DONE]\n\n");
    } else if (c->dialect == RESPONSES) {
        end_response(c);
    } else {
        append_event(c, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
        append_chunk(c, text,
                     snprintf(text, sizeof text,
                              "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
                              "\"end_turn\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":412,"
                              "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":%d}}\n\n",
                              c->deltas));
        append_event(c, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }
    append_text(&c->out, "0\r\n\r\n");
}

static void append_json(struct connection *c)
{
    static const struct buffer *const replies[] = {&chat_json, &messages_json, &responses_json};
    const struct buffer *reply = replies[c->dialect];
    append(&c->out, reply->data, reply->length);
}

/* The timer of `c` has run out: do the next step of its answer. `t` is the time at which this round began. */
static void advance(struct connection *c, int64_t t)
{
    timer_stop(c);
    if (c->stage == JSON_LATER) {
        append_json(c);
        c->stage = IDLE;
    } else if (c->stage == STREAM_LATER) {
        begin_stream(c);
        c->stage = STREAMING;
        c->due = t + c->gap;
    } else if (c->made < c->deltas) {
        append_delta(c);
        c->made++;
        c->due = c->gap ? c->due + c->gap : t + 1; /* without a gap: once a round, so that streams take turns */
    } else {
        end_stream(c);
        c->stage = IDLE;
    }
    if (c->stage != IDLE) timer_start(c);
    flush(c);
}

/* ---- reading ---- */

static int tagged(const char *name, size_t n, char tag, int otherwise)
{
    for (size_t i = 0; i + 2 < n; i++)
        if (name[i] == '-' && name[i + 1] == tag && name[i + 2] >= '0' && name[i + 2] <= '9') return atoi(name + i + 2);
    return otherwise;
}

/* The first byte of the value of the first "key" in `body` (the quotes belong to `key`), or NULL. */
static const char *value_of(const char *body, size_t n, const char *key)
{
    const char *end = body + n, *p = memmem(body, n, key, strlen(key));
    if (!p) return NULL;
    p += strlen(key);
    while (p < end && (*p == ' ' || *p == ':')) p++;
    return p < end ? p : NULL;
}

static bool is_true(const char *body, size_t n, const char *key)
{
    const char *value = value_of(body, n, key);
    return value && (size_t)(body + n - value) >= 4 && !memcmp(value, "true", 4);
}

static void answer(struct connection *c, const char *head, size_t head_length, const char *body, size_t body_length)
{
    const char *eol = memchr(head, '\r', head_length);
    size_t line = eol ? (size_t)(eol - head) : head_length;
    const struct buffer *refusal = NULL;
    if (expected_key && !memmem(head, head_length, expected_key, strlen(expected_key))) refusal = &unauthorized;
    else if (memmem(head, line, "/chat/completions", 17)) c->dialect = CHAT;
    else if (memmem(head, line, "/messages", 9)) c->dialect = MESSAGES;
    else if (memmem(head, line, "/responses", 10)) c->dialect = RESPONSES;
    else refusal = &not_found;
    if (refusal) {
        append(&c->out, refusal->data, refusal->length);
        flush(c);
        return;
    }
    int delay = 0, gap = 0;
    c->deltas = 200;
    const char *model = value_of(body, body_length, "\"model\"");
    if (model && *model == '"') {
        const char *quote = memchr(model + 1, '"', (size_t)(body + body_length - model - 1));
        size_t n = quote ? (size_t)(quote - model) : 0;
        c->deltas = tagged(model, n, 'n', 200);
        gap = tagged(model, n, 'g', 0);
        delay = tagged(model, n, 'd', 0);
    }
    bool stream = is_true(body, body_length, "\"stream\"");
    c->usage = stream && is_true(body, body_length, "\"include_usage\"");
    c->made = 0;
    c->gap = (int64_t)gap * 1000000;
    c->due = now() + (int64_t)delay * 1000000;
    if (delay) {
        c->stage = stream ? STREAM_LATER : JSON_LATER;
        timer_start(c);
        return;
    }
    if (stream) {
        begin_stream(c);
        c->stage = STREAMING;
        timer_start(c);
    } else {
        append_json(c);
    }
    flush(c);
}

/* Answer one request if it is whole; false if more bytes are needed or an answer is under way. */
static bool take_request(struct connection *c)
{
    if (c->stage != IDLE || !c->in.length) return false;
    char *head = c->in.data, *blank = memmem(head, c->in.length, "\r\n\r\n", 4);
    if (!blank) return false;
    size_t head_length = (size_t)(blank + 4 - head), content_length = 0, whole;
    bool chunked = false;
    for (char *line = head; line < blank;) {
        char *eol = memchr(line, '\n', (size_t)(blank + 2 - line));
        if (!eol) break;
        if (!strncasecmp(line, "content-length:", 15)) content_length = strtoul(line + 15, NULL, 10);
        else if (!strncasecmp(line, "transfer-encoding:", 18)) chunked = true;
        line = eol + 1;
    }
    if (chunked) { /* the last chunk is looked for, not the sizes added up: JSON cannot hold a raw line break */
        char *last = memmem(blank + 2, c->in.length - (size_t)(blank + 2 - head), "\r\n0\r\n\r\n", 7);
        if (!last) return false;
        whole = (size_t)(last + 7 - head);
    } else {
        whole = head_length + content_length;
        if (c->in.length < whole) return false;
    }
    answer(c, head, head_length, head + head_length, whole - head_length);
    c->in.length -= whole;
    if (c->in.length) memmove(head, head + whole, c->in.length);
    return true;
}

static void receive(struct connection *c)
{
    for (;;) {
        if (c->in.capacity - c->in.length < 65536) {
            c->in.capacity = c->in.capacity * 2 + 131072;
            c->in.data = realloc(c->in.data, c->in.capacity);
            if (!c->in.data) abort();
        }
        size_t room = c->in.capacity - c->in.length;
        ssize_t n = recv(c->fd, c->in.data + c->in.length, room, 0);
        if (n <= 0) {
            if (n == 0 || errno != EAGAIN) c->dead = true;
            return;
        }
        c->in.length += (size_t)n;
        if ((size_t)n < room) return;
    }
}

static void drop(struct connection *c)
{
    timer_stop(c);
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c->said.data);
    free(c);
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = calloc(1, sizeof *c);
        if (!c) abort();
        c->fd = fd;
        c->place = NO_PLACE;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void prepare(struct buffer *reply, const char *status, const char *headers, const char *body)
{
    char head[512];
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %zu\r\n\r\n", status,
             headers, strlen(body));
    append_text(reply, head);
    append_text(reply, body);
}

static void prepare_replies(void)
{
    prepare(&chat_json, "200 OK",
            "x-request-id: req_mock0123456789\r\nopenai-processing-ms: 1\r\nopenai-version: 2020-10-01\r\n",
            "{\"id\":\"chatcmpl-mock0123456789\",\"object\":\"chat.completion\",\"created\":1764000000,"
            "\"model\":\"gpt-4o-2024-11-20\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
            "\"content\":\"" TEXT "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
            "\"usage\":{\"prompt_tokens\":412,\"completion_tokens\":98,\"total_tokens\":510,"
            "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":"
            "{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
            "\"rejected_prediction_tokens\":0}},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\"}");
    prepare(&messages_json, "200 OK", "request-id: req_mock0123456789\r\nanthropic-organization-id: org_mock\r\n",
            "{\"id\":\"msg_mock0123456789\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\","
            "\"content\":[{\"type\":\"text\",\"text\":\"" TEXT "\"}],\"stop_reason\":\"end_turn\","
            "\"stop_sequence\":null,\"usage\":{\"input_tokens\":412,\"cache_creation_input_tokens\":0,"
            "\"cache_read_input_tokens\":0,\"output_tokens\":98,\"service_tier\":\"standard\"}}");
    prepare(&responses_json, "200 OK",
            "x-request-id: req_mock0123456789\r\nopenai-processing-ms: 1\r\nopenai-version: 2020-10-01\r\n",
            "{" RESPONSE "\"status\":\"completed\",\"error\":null,\"incomplete_details\":null,\"output\":[{" ITEM
            "\"status\":\"completed\",\"content\":[{" PART "\"" TEXT "\"}]}],\"parallel_tool_calls\":true,"
            "\"usage\":{\"input_tokens\":412,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":98,"
            "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":510}}");
    prepare(&unauthorized, "401 Unauthorized", "", "{\"error\":{\"type\":\"auth\",\"message\":\"not the upstream's key\"}}");
    prepare(&not_found, "404 Not Found", "", "{\"error\":{\"type\":\"path\",\"message\":\"no such path\"}}");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s PORT [KEY [spin]]\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    expected_key = argc > 2 ? argv[2] : NULL;
    bool spin = argc > 3 && !strcmp(argv[3], "spin");
    prepare_replies();
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("upstream: listen");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);

    static struct epoll_event events[1024];
    for (;;) {
        int64_t t = now();
        while (timer_count && timers[0]->due <= t) {
            struct connection *c = timers[0];
            advance(c, t);
            if (c->dead) {
                drop(c);
                continue;
            }
            while (take_request(c)) continue;
        }
        struct timespec wait, *limit = NULL;
        if (timer_count) {
            int64_t left = timers[0]->due - now();
            if (left < 0) left = 0;
            wait = (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
            limit = &wait;
        }
        int n = await_events(poller, events, 1024, limit, spin);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                accept_all(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT) flush(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
            while (!c->dead && take_request(c)) continue;
            if (c->dead) drop(c);
        }
    }
}
