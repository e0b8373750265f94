// stream: sends, receives and connects as fast as it can, for the way in between to be measured.
//
//   stream server ADDRESS PORT                                  serves until it is killed
//   stream upload|download|connect ADDRESS PORT SECONDS         prints bytes (or connections) per second
//   stream hostfwd SOCKET HOST_PORT GUEST_PORT                  asks slirp4netns's API for a forwarded port
//
// upload and download are one connection; the clock runs from its first byte to its last, at the receiving end: what is
// still in a buffer when the time is up does not count. connect is one connection after the other, each with a byte there
// and a byte back. IPv4. $CONGESTION is the congestion control of every socket; without it, the system's.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 128 * 1024 };
static char buffer[CHUNK];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static struct sockaddr_in address_of(const char *address, const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1) { fprintf(stderr, "stream: %s?\n", address); exit(2); }
    return to;
}

static int stream_socket(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    const char *congestion = getenv("CONGESTION");
    if (congestion && *congestion && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, strlen(congestion)) != 0)
        fail(congestion);
    return fd;
}

static int connected(const char *address, const char *port) {
    struct sockaddr_in to = address_of(address, port);
    int fd = stream_socket(), one = 1;
    if (connect(fd, (void *)&to, sizeof to) != 0) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

// Until the other side says no more; bytes per second.
static double receive(int fd) {
    double bytes = 0, start = 0;
    ssize_t count;
    while ((count = read(fd, buffer, CHUNK)) > 0) {
        if (!start) start = now();
        bytes += count;
    }
    if (count < 0) fail("read");
    return bytes / (now() - start);
}

static void send_for(int fd, double seconds) {
    double until = now() + seconds;
    while (now() < until)
        if (write(fd, buffer, CHUNK) < 0) fail("write");
    shutdown(fd, SHUT_WR);
}

// The first byte says what the client wants: U, D followed by seconds, or C.
static void serve(int fd) {
    char request[2];
    if (read(fd, request, 1) != 1) return;
    double rate = 0;
    switch (request[0]) {
    case 'U':
        rate = receive(fd);
        if (write(fd, &rate, sizeof rate) != sizeof rate) perror("write");
        break;
    case 'D':
        if (read(fd, request + 1, 1) == 1) send_for(fd, request[1]);
        // Its end means that it has everything.
        while (read(fd, request, 1) > 0) {}
        break;
    default:
        if (write(fd, request, 1) != 1) perror("write");
    }
}

static void server(const char *address, const char *port) {
    struct sockaddr_in at = address_of(address, port);
    // What is accepted inherits its congestion control.
    int listener = stream_socket(), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) != 0 || listen(listener, 4096) != 0) fail("bind");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) { if (errno == EINTR || errno == ECONNABORTED) continue; fail("accept"); }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        serve(fd);
        close(fd);
    }
}

static double measure(const char *what, const char *address, const char *port, int seconds) {
    if (what[0] == 'c') {
        double start = now(), count = 0;
        for (; now() - start < seconds; count++) {
            int fd = connected(address, port);
            if (write(fd, "C", 1) != 1 || read(fd, buffer, 1) != 1) fail("a connection without an answer");
            close(fd);
        }
        return count / (now() - start);
    }
    int fd = connected(address, port);
    double rate;
    if (what[0] == 'd') {
        char request[2] = {'D', seconds};
        if (write(fd, request, 2) != 2) fail("write");
        rate = receive(fd);
    } else {
        if (write(fd, "U", 1) != 1) fail("write");
        send_for(fd, seconds);
        if (read(fd, &rate, sizeof rate) != sizeof rate) fail("read");
    }
    close(fd);
    return rate;
}

static void hostfwd(const char *path, const char *host_port, const char *guest_port) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (void *)&to, sizeof to) != 0) fail(path);
    dprintf(fd, "{\"execute\":\"add_hostfwd\",\"arguments\":{\"proto\":\"tcp\",\"host_addr\":\"127.0.0.1\","
                "\"host_port\":%d,\"guest_addr\":\"10.0.2.100\",\"guest_port\":%d}}", atoi(host_port), atoi(guest_port));
    shutdown(fd, SHUT_WR);
    ssize_t count = read(fd, buffer, CHUNK - 1);
    if (count <= 0 || !strstr(buffer, "\"return\"")) { fprintf(stderr, "stream: slirp4netns said: %s\n", buffer); exit(1); }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    // In pasta's namespaces nobody else ends it.
    if (argc == 4) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc == 4 && !strcmp(argv[1], "server")) server(argv[2], argv[3]);
    else if (argc == 5 && !strcmp(argv[1], "hostfwd")) hostfwd(argv[2], argv[3], argv[4]);
    else if (argc == 5 && strchr("udc", argv[1][0])) printf("%.0f\n", measure(argv[1], argv[2], argv[3], atoi(argv[4])));
    else { fprintf(stderr, "usage: see the head of stream.c\n"); return 2; }
    return 0;
}
