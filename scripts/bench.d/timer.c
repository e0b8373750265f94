// timer: runs commands in turn, round after round, and prints how long each took from its start to its end.
//
//   timer ROUNDS WARM_UP_ROUNDS LOG <COMMANDS
//
// COMMANDS has one command a line, TAB between LABEL, program and arguments. All lines run in order, then again, so that
// slow changes of the machine (heat, page cache, other load) meet all of them alike, and a round's times are a pair.
// The label `-` is preparation: run, not timed. The commands' output goes to LOG. Words NAME=VALUE before the program are
// set in its environment; they stay set for later lines that do not set the same name.
// Prints LABEL, round and nanoseconds, or `failed`, with TABs between them.
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_COMMANDS = 64, MAX_WORDS = 64 };

struct command {
    char *label;
    char *argv[MAX_WORDS];
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int read_commands(struct command *commands) {
    int count = 0;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        if (count == MAX_COMMANDS) { fprintf(stderr, "timer: too many commands\n"); exit(2); }
        struct command *command = &commands[count];
        char *rest = strdup(line);
        rest[strcspn(rest, "\n")] = 0;
        int words = 0;
        command->label = strsep(&rest, "\t");
        while (rest && words < MAX_WORDS - 1) command->argv[words++] = strsep(&rest, "\t");
        if (words) count++;
    }
    free(line);
    return count;
}

// Nanoseconds from before the spawn to after the wait; -1 when the command did not end with status 0.
static long long run(char **argv, const char *log) {
    extern char **environ;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    struct timespec before, after;
    pid_t child;
    int status;
    for (; argv[0] && strchr(argv[0], '='); argv++) putenv(argv[0]);
    if (!argv[0]) return -1;
    clock_gettime(CLOCK_MONOTONIC, &before);
    if (posix_spawnp(&child, argv[0], &actions, NULL, argv, environ)) return -1;
    if (waitpid(child, &status, 0) < 0) fail("waitpid");
    clock_gettime(CLOCK_MONOTONIC, &after);
    posix_spawn_file_actions_destroy(&actions);
    if (status) return -1;
    return (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
}

int main(int argc, char **argv) {
    static struct command commands[MAX_COMMANDS];
    if (argc != 4) { fprintf(stderr, "usage: timer ROUNDS WARM_UP_ROUNDS LOG <COMMANDS\n"); return 2; }
    int rounds = atoi(argv[1]), warm_up = atoi(argv[2]), count = read_commands(commands);
    for (int round = -warm_up; round < rounds; round++) {
        for (int i = 0; i < count; i++) {
            long long took = run(commands[i].argv, argv[3]);
            if (round < 0 || !strcmp(commands[i].label, "-")) continue;
            if (took < 0) printf("%s\t%d\tfailed\n", commands[i].label, round);
            else printf("%s\t%d\t%lld\n", commands[i].label, round, took);
        }
        fflush(stdout);
    }
    return 0;
}
