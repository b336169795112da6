/* Behaviour: a small multi-threaded key-value server on 127.0.0.1, with a load generator inside, so that a
 * demonstration needs nothing else. One file, no dependency but POSIX threads.
 *
 *   server [--port N] [--self-load N_PER_SECOND] [--control]
 *
 * It prints `ready pid=N port=N` and serves until it is killed. One request a line, one answer a line:
 *   PING -> PONG      SET key value -> STORED      GET key -> VALUE value | MISSING      QUIT -> BYE
 * anything else -> ERROR. Keys have at most 63 bytes, values at most 255.
 *
 * --self-load: a thread of the server sends that many requests per second through eight loopback connections
 * of its own and compares every answer. --control: commands on stdin, end of file ends the server:
 *   stats    `stats requests=N gets=N sets=N pings=N wrong=N`: calls of handle_request by kind, and answers
 *            that the load generator did not expect
 *
 * main: epoll, one-shot. A connection with bytes to read goes into a queue that four workers take from;
 * handle_request -> lookup | store -> hash_key, none of them inlined, so that each can be probed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, used, visibility("default")))

enum { WORKERS = 4, KEY = 64, VALUE = 256, LINE = 512, BUCKETS = 1024, QUEUE = 1024, LOAD_CONNECTIONS = 8 };
enum kind { PING, GET, SET, QUIT, BAD, KINDS };

struct request {
    enum kind kind;
    uint32_t value_bytes;
    char key[KEY];
    char value[VALUE]; /* in for SET, out for GET */
};

struct connection {
    int fd;
    size_t filled;
    char bytes[LINE];
};

struct entry {
    struct entry *next;
    char key[KEY];
    char value[VALUE];
};

static struct {
    pthread_mutex_t lock;
    struct entry *first;
} buckets[BUCKETS];

static struct connection *queue[QUEUE];
static unsigned queue_head, queue_tail;
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER, queue_drained = PTHREAD_COND_INITIALIZER;

static atomic_long handled[KINDS], wrong;
static int epoll_fd;

/* ---- the store ---------------------------------------------------------------------------------------- */

/* FNV-1a. */
KEPT uint32_t hash_key(const char *key) {
    uint32_t hash = 2166136261u;
    for (; *key; key++) hash = (hash ^ (uint8_t)*key) * 16777619u;
    return hash;
}

/* Copies the value of `key` to `value`; 0 if there is none. */
KEPT int lookup(const char *key, char *value) {
    uint32_t at = hash_key(key) % BUCKETS;
    int found = 0;
    pthread_mutex_lock(&buckets[at].lock);
    for (struct entry *e = buckets[at].first; e && !found; e = e->next) {
        if (strcmp(e->key, key) != 0) continue;
        memcpy(value, e->value, VALUE);
        found = 1;
    }
    pthread_mutex_unlock(&buckets[at].lock);
    return found;
}

/* Keeps a value; 0 when there is no memory for it. */
KEPT int store(const char *key, const char *value) {
    uint32_t at = hash_key(key) % BUCKETS;
    pthread_mutex_lock(&buckets[at].lock);
    struct entry *e = buckets[at].first;
    while (e && strcmp(e->key, key) != 0) e = e->next;
    if (!e && (e = calloc(1, sizeof *e))) {
        memcpy(e->key, key, strlen(key) + 1);
        e->next = buckets[at].first;
        buckets[at].first = e;
    }
    if (e) memcpy(e->value, value, VALUE);
    pthread_mutex_unlock(&buckets[at].lock);
    return e != NULL;
}

/* ---- requests ----------------------------------------------------------------------------------------- */

/* The word that the text begins with; `*rest` is what follows the space after it, or an empty string. */
static char *first_word(char *text, char **rest) {
    *rest = text + strcspn(text, " ");
    if (**rest) *(*rest)++ = 0;
    return text;
}

/* Fills a request from a line without its newline. */
static void parse(char *line, struct request *request) {
    char *value, *rest, *word = first_word(line, &rest), *key = first_word(rest, &value);
    memset(request, 0, sizeof *request);
    request->kind = BAD;
    if (strcmp(word, "PING") == 0 && !*key) request->kind = PING;
    if (strcmp(word, "QUIT") == 0 && !*key) request->kind = QUIT;
    if (!*key || strlen(key) >= KEY || strlen(value) >= VALUE) return;
    memcpy(request->key, key, strlen(key));
    if (strcmp(word, "GET") == 0 && !*value) request->kind = GET;
    if (strcmp(word, "SET") == 0 && *value) {
        request->kind = SET;
        request->value_bytes = (uint32_t)strlen(value);
        memcpy(request->value, value, strlen(value));
    }
}

/* One request, one answer: the function that demonstrations probe. Returns the answer's first word. */
KEPT const char *handle_request(struct request *request) {
    atomic_fetch_add(&handled[request->kind], 1);
    switch (request->kind) {
    case PING: return "PONG";
    case GET: return lookup(request->key, request->value) ? "VALUE" : "MISSING";
    case SET: return store(request->key, request->value) ? "STORED" : "ERROR";
    case QUIT: return "BYE";
    default: return "ERROR";
    }
}

static int send_all(int fd, const char *bytes, size_t n) {
    while (n) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return 0;
        bytes += sent, n -= (size_t)sent;
    }
    return 1;
}

/* Serves what a connection has to say now. 0 when it is to be closed. */
static int serve(struct connection *c) {
    ssize_t n = recv(c->fd, c->bytes + c->filled, LINE - c->filled, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return 0;
    if (n > 0) c->filled += (size_t)n;
    for (char *end; (end = memchr(c->bytes, '\n', c->filled));) {
        struct request request;
        char out[VALUE + 16];
        size_t used = (size_t)(end - c->bytes) + 1;
        *end = 0;
        if (end > c->bytes && end[-1] == '\r') end[-1] = 0;
        parse(c->bytes, &request);
        const char *word = handle_request(&request);
        int value = word[0] == 'V';
        int length = snprintf(out, sizeof out, "%s%s%.*s\n", word, value ? " " : "", VALUE - 1, value ? request.value : "");
        if (!send_all(c->fd, out, (size_t)length) || request.kind == QUIT) return 0;
        memmove(c->bytes, c->bytes + used, c->filled -= used);
    }
    return c->filled < LINE; /* a line that does not fit ends the connection */
}

/* ---- threads ------------------------------------------------------------------------------------------ */

static void *worker(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&queue_lock);
        while (queue_head == queue_tail) pthread_cond_wait(&queue_filled, &queue_lock);
        struct connection *c = queue[queue_tail++ % QUEUE];
        pthread_cond_signal(&queue_drained);
        pthread_mutex_unlock(&queue_lock);
        struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = c};
        if (serve(c) && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &again) == 0) continue;
        close(c->fd);
        free(c);
    }
    return NULL;
}

static void take_connection(int listener) {
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    struct connection *c = fd < 0 ? NULL : calloc(1, sizeof *c);
    struct epoll_event first = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = c};
    if (c) {
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &first) == 0) return;
    }
    if (fd >= 0) close(fd);
    free(c);
}

static void *acceptor(void *argument) {
    int listener = *(int *)argument;
    struct epoll_event ready[64];
    for (;;) {
        int n = epoll_wait(epoll_fd, ready, 64, -1);
        for (int i = 0; i < n; i++) {
            if (!ready[i].data.ptr) {
                take_connection(listener);
                continue;
            }
            pthread_mutex_lock(&queue_lock);
            while (queue_head - queue_tail == QUEUE) pthread_cond_wait(&queue_drained, &queue_lock);
            queue[queue_head++ % QUEUE] = ready[i].data.ptr;
            pthread_cond_signal(&queue_filled);
            pthread_mutex_unlock(&queue_lock);
        }
    }
    return NULL;
}

/* ---- load --------------------------------------------------------------------------------------------- */

static struct sockaddr_in address = {.sin_family = AF_INET};
static long per_second;

/* Reads one line; an empty one if the connection ended. */
static void read_line(int fd, char *line) {
    size_t n = 0;
    while (n < LINE - 1 && recv(fd, line + n, 1, 0) == 1 && line[n] != '\n') n++;
    line[n] = 0;
}

/* Request number i: seven GETs, two SETs and a PING of ten, over a thousand keys. `line` gets the request,
 * the result is how its answer must begin. */
static const char *make_request(unsigned i, char *line) {
    unsigned key = (i * 2654435761u) >> 22;
    if (i % 10 == 9) return strcpy(line, "PING\n"), "PONG";
    if (i % 10 >= 7) return sprintf(line, "SET user:%u visits=%u\n", key, i), "STORED";
    return sprintf(line, "GET user:%u\n", key), "";
}

static void *load(void *unused) {
    int fds[LOAD_CONNECTIONS], on = 1;
    struct timespec next;
    char line[LINE];
    unsigned sent = 0;
    double due = 0;
    (void)unused;
    for (int i = 0; i < LOAD_CONNECTIONS; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fds[i], (struct sockaddr *)&address, sizeof address)) perror("connect"), exit(1);
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    clock_gettime(CLOCK_MONOTONIC, &next);
    /* Every two milliseconds what is due: rounds of one request for each connection, then their answers. */
    for (;;) {
        next.tv_nsec += 2000000;
        if (next.tv_nsec >= 1000000000) next.tv_nsec -= 1000000000, next.tv_sec++;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        for (due += (double)per_second / 500; due >= 1;) {
            const char *expected[LOAD_CONNECTIONS];
            int n = 0;
            for (; n < LOAD_CONNECTIONS && due >= 1; n++, due--) {
                expected[n] = make_request(sent++, line);
                if (!send_all(fds[n], line, strlen(line))) atomic_fetch_add(&wrong, 1);
            }
            for (int i = 0; i < n; i++) {
                read_line(fds[i], line);
                const char *want = *expected[i] ? expected[i] : line[0] == 'M' ? "MISSING" : "VALUE visits=";
                if (strncmp(line, want, strlen(want)) != 0) atomic_fetch_add(&wrong, 1);
            }
        }
    }
    return NULL;
}

/* ---- start -------------------------------------------------------------------------------------------- */

static void start(void *(*body)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, argument)) perror("pthread_create"), exit(1);
}

static int control(void) {
    char line[LINE];
    while (fgets(line, sizeof line, stdin) && strcmp(line, "quit\n") != 0) {
        if (strcmp(line, "stats\n") == 0) {
            long total = 0;
            for (int i = 0; i < KINDS; i++) total += atomic_load(&handled[i]);
            printf("stats requests=%ld gets=%ld sets=%ld pings=%ld wrong=%ld\n", total, atomic_load(&handled[GET]),
                   atomic_load(&handled[SET]), atomic_load(&handled[PING]), atomic_load(&wrong));
        } else {
            printf("error unknown command: %s", line);
        }
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    int controlled = 0, on = 1;
    long port = 0;
    socklen_t length = sizeof address;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--control") == 0)
            controlled = 1;
        else if (strcmp(argv[i], "--port") == 0 && i + 1 < argc)
            port = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--self-load") == 0 && i + 1 < argc)
            per_second = strtol(argv[++i], NULL, 10);
        else
            return fprintf(stderr, "usage: server [--port N] [--self-load N_PER_SECOND] [--control]\n"), 2;
    }
    if (port < 0 || port > 65535 || per_second < 0 || per_second > 1000000)
        return fprintf(stderr, "server: port up to 65535, load up to 1000000\n"), 2;
    for (int i = 0; i < BUCKETS; i++) pthread_mutex_init(&buckets[i].lock, NULL);
    signal(SIGPIPE, SIG_IGN);

    static int listener;
    struct epoll_event accepts = {.events = EPOLLIN, .data.ptr = NULL};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128) ||
        getsockname(listener, (struct sockaddr *)&address, &length))
        return perror("server: 127.0.0.1"), 1;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &accepts)) return perror("epoll"), 1;

    for (int i = 0; i < WORKERS; i++) start(worker, NULL);
    start(acceptor, &listener);
    if (per_second) start(load, NULL);
#ifdef PR_SET_PTRACER /* any process of the same user may trace it, where the system asks for that */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
#endif
    printf("ready pid=%ld port=%d\n", (long)getpid(), ntohs(address.sin_port));
    fflush(stdout);
    if (controlled) return control();
    for (;;) pause();
}
