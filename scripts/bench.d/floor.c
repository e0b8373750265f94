// floor: one rootless pod with one container, made of the kernel calls that no implementation can leave out, and nothing
// else: no checks, no records, no logs, no seccomp. What sandpod takes longer than this is its own cost.
//
//   floor ROOTFS           runs ROOTFS/bin/true; ROOTFS also has proc/ sys/ dev/ tmp/
//
// Its steps are those of design: user namespace first with all of the pod's namespaces, newuidmap and newgidmap at the
// same time, pause, a launcher that enters the pod, a container with an overlay, /proc, /sys, /dev, pivot_root, exec,
// teardown. Exit status: the container's, or 99.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRY(call) do { if ((call) < 0) { perror(#call); _exit(99); } } while (0)

static pid_t clone_into(uint64_t flags, int *pidfd) {
    struct clone_args arguments = {
        .flags = flags | (pidfd ? CLONE_PIDFD : 0),
        .pidfd = (uintptr_t)pidfd,
        // The kernel refuses an exit signal together with CLONE_PARENT; the child inherits ours.
        .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
    };
    return syscall(SYS_clone3, &arguments, sizeof arguments);
}

// The start of our first range in /etc/subuid or /etc/subgid, by name or by number (subuid(5)).
static unsigned long first_subid(const char *file) {
    char line[256], number[16], *name = getenv("USER");
    snprintf(number, sizeof number, "%u", getuid());
    FILE *stream = fopen(file, "re");
    while (stream && fgets(line, sizeof line, stream)) {
        char *rest = line, *owner = strsep(&rest, ":");
        if (rest && (!strcmp(owner, number) || (name && !strcmp(owner, name)))) {
            fclose(stream);
            return strtoul(rest, NULL, 10);
        }
    }
    fprintf(stderr, "floor: no range of ours in %s\n", file);
    exit(99);
}

// `newuidmap PID 0 OURS 1 1 FIRST 65535`: container root is us, the rest are our subordinate ids.
static pid_t start_map_tool(char *tool, pid_t target, unsigned ours, unsigned long first) {
    extern char **environ;
    char pid[16], id[16], sub[24];
    sprintf(pid, "%d", target);
    sprintf(id, "%u", ours);
    sprintf(sub, "%lu", first);
    char *argv[] = {tool, pid, "0", id, "1", "1", sub, "65535", NULL};
    pid_t child;
    if (posix_spawnp(&child, tool, NULL, NULL, argv, environ)) { perror(tool); exit(99); }
    return child;
}

// Pid 1 of the pod: waits for its id maps, completes the sandbox, then only holds the namespaces.
static void pause_process(int supervisor) {
    char byte;
    TRY(read(supervisor, &byte, 1));
    TRY(setresgid(0, 0, 0));
    TRY(setresuid(0, 0, 0));
    TRY(prctl(PR_SET_PDEATHSIG, SIGKILL));
    TRY(unshare(CLONE_NEWCGROUP));
    TRY(sethostname("pod", 3));
    TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    TRY(write(supervisor, &byte, 1));
    for (;;) pause();
}

static void bind_device(const char *name) {
    char from[32], to[32];
    sprintf(from, "/dev/%s", name);
    sprintf(to, "dev/%s", name);
    TRY(close(open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0666)));
    TRY(mount(from, to, NULL, MS_BIND, NULL));
}

// Pid 1 of the container.
static void container_process(const char *rootfs) {
    TRY(chdir(rootfs)); // it may be below /tmp, which is covered next
    TRY(mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
    TRY(mkdir("/tmp/upper", 0755));
    TRY(mkdir("/tmp/work", 0755));
    TRY(mkdir("/tmp/root", 0755));
    TRY(mount("overlay", "/tmp/root", "overlay", 0,
              "lowerdir=.,upperdir=/tmp/upper,workdir=/tmp/work,userxattr"));
    TRY(chdir("/tmp/root"));
    TRY(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    TRY(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL));
    TRY(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755"));
    static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) bind_device(devices[i]);
    TRY(mkdir("dev/pts", 0755));
    TRY(mkdir("dev/shm", 01777));
    TRY(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
    TRY(mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, NULL));
    TRY(syscall(SYS_pivot_root, ".", "."));
    TRY(umount2(".", MNT_DETACH));
    execl("/bin/true", "true", (char *)NULL);
    perror("/bin/true");
    _exit(99);
}

// The kernel refuses CLONE_NEWPID to a process that has just changed its pid namespace for its children, so one more
// process, already inside, makes the container. CLONE_PARENT: all of them are children of `main`.
static void launcher_process(int pod, const char *rootfs) {
    TRY(setns(pod, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID));
    TRY(setresgid(0, 0, 0));
    TRY(setresuid(0, 0, 0));
    pid_t inside = clone_into(CLONE_PARENT, NULL);
    TRY(inside);
    if (inside) _exit(0);
    pid_t container = clone_into(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWCGROUP | CLONE_PARENT, NULL);
    TRY(container);
    if (!container) container_process(rootfs);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: floor ROOTFS\n"); return 99; }
    int pair[2], pod, status, failed = 0;
    char byte = 0;
    TRY(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    pid_t pause_pid = clone_into(
        CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, &pod);
    TRY(pause_pid);
    if (!pause_pid) pause_process(pair[1]);
    pid_t uid_tool = start_map_tool("newuidmap", pause_pid, getuid(), first_subid("/etc/subuid"));
    pid_t gid_tool = start_map_tool("newgidmap", pause_pid, getgid(), first_subid("/etc/subgid"));
    TRY(waitpid(uid_tool, &status, 0));
    failed |= status;
    TRY(waitpid(gid_tool, &status, 0));
    failed |= status;
    if (failed) { fprintf(stderr, "floor: newuidmap or newgidmap failed\n"); return 99; }
    TRY(write(pair[0], &byte, 1));
    TRY(read(pair[0], &byte, 1));
    pid_t launcher = fork();
    TRY(launcher);
    if (!launcher) launcher_process(pod, argv[1]);
    for (int children = 3; children; children--) { // launcher, the one inside, the container
        TRY(waitpid(-1, &status, __WALL));
        failed |= status;
    }
    TRY(kill(pause_pid, SIGKILL));
    TRY(waitpid(pause_pid, &status, 0));
    return failed ? 99 : 0;
}
