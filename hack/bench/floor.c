// The floor: the system calls that a container costs whoever makes it, and nothing else.
//
//   floor run ROOTFS ID CGROUPS [FILTER]   what `run` must do for the bundle that `myrt spec` writes
//   floor exec PID ID CGROUPS              what `exec` must do in a container with that first process and cgroup
//   floor peak PROGRAM [ARG]...            runs a program and prints its peak memory in KiB
//
// CGROUPS is v2, none, or the folders of the v1 hierarchies with colons between them: cpu:memory:systemd:unified.
// FILTER has the instructions of a seccomp filter, ready to be installed.
// Nothing is parsed, checked, recorded or taken back; every failure ends the program with the line it happened in.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call)                                                                \
    ({                                                                            \
        long result_ = (call);                                                    \
        if (result_ < 0) {                                                        \
            dprintf(2, "floor: line %d: %s: %s\n", __LINE__, #call, strerror(errno)); \
            _exit(1);                                                             \
        }                                                                         \
        result_;                                                                  \
    })

// sys/mount.h does not go together with linux/mount.h in every C library.
#define MNT_DETACH 2
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);

// The v1 hierarchies by the names of their folders, "unified" among them on a hybrid host; none on a v2 host.
static char *v1[32];
static int v1_count;

static char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *format, ...) {
    static char buffers[8][512];
    static int next;
    char *buffer = buffers[next++ % 8];
    va_list args;
    va_start(args, format);
    vsnprintf(buffer, 512, format, args);
    va_end(args);
    return buffer;
}

static void put(const char *path, const char *value) {
    int fd = MUST(open(path, O_WRONLY | O_CLOEXEC));
    MUST(write(fd, value, strlen(value)));
    close(fd);
}

static void copy(const char *from, const char *to) {
    char value[64];
    int fd = MUST(open(from, O_RDONLY | O_CLOEXEC));
    long length = MUST(read(fd, value, sizeof value - 1));
    close(fd);
    value[length] = 0;
    put(to, value);
}

// ---- the cgroup ----------------------------------------------------------------------------------

// The device rules of the bundle (deny all) with the devices that every container has.
struct device {
    int kind, major, minor;
};
static const struct device DEVICES[] = {{'c', 1, 3}, {'c', 1, 5}, {'c', 1, 7},  {'c', 1, 8},
                                        {'c', 1, 9}, {'c', 5, 0}, {'c', 5, 2}, {'c', 136, -1}};
enum { DEVICE_COUNT = sizeof DEVICES / sizeof *DEVICES };

static long bpf(int command, union bpf_attr *attr) { return syscall(SYS_bpf, command, attr, sizeof *attr); }

static void device_filter(int cgroup) {
    struct bpf_insn code[8 + 6 * DEVICE_COUNT];
    int n = 0;
#define INSN(c, d, s, o, i) code[n++] = (struct bpf_insn){.code = c, .dst_reg = d, .src_reg = s, .off = o, .imm = i}
    INSN(BPF_LDX | BPF_W | BPF_MEM, 2, 1, 0, 0);  // the kind of the device, and the access
    INSN(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
    INSN(BPF_LDX | BPF_W | BPF_MEM, 3, 1, 4, 0);  // major
    INSN(BPF_LDX | BPF_W | BPF_MEM, 4, 1, 8, 0);  // minor
    for (int i = 0; i < DEVICE_COUNT; i++) {
        int some = DEVICES[i].minor >= 0;
        INSN(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 3 + some, BPF_DEVCG_DEV_CHAR);
        INSN(BPF_JMP | BPF_JNE | BPF_K, 3, 0, 2 + some, DEVICES[i].major);
        if (some)
            INSN(BPF_JMP | BPF_JNE | BPF_K, 4, 0, 2, DEVICES[i].minor);
        INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
        INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    }
    INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE};
    load.insn_cnt = n;
    load.insns = (uintptr_t)code;
    load.license = (uintptr_t) "GPL";
    int program = MUST(bpf(BPF_PROG_LOAD, &load));
    union bpf_attr attach = {.target_fd = cgroup, .attach_bpf_fd = program};
    attach.attach_type = BPF_CGROUP_DEVICE;
    MUST(bpf(BPF_PROG_ATTACH, &attach));
    close(program);
}

static int make_v2(const char *path) {
    MUST(mkdir(path, 0755));
    return MUST(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static void fill_cpuset(const char *id) {
    // An empty cpuset takes nobody in.
    for (int i = 0; i < 2; i++) {
        const char *file = i ? "cpuset.mems" : "cpuset.cpus";
        copy(text("/sys/fs/cgroup/cpuset/%s", file), text("/sys/fs/cgroup/cpuset/%s/%s", id, file));
    }
}

static void device_lists(const char *id) {
    put(text("/sys/fs/cgroup/devices/%s/devices.deny", id), "a");
    int fd = MUST(open(text("/sys/fs/cgroup/devices/%s/devices.allow", id), O_WRONLY | O_CLOEXEC));
    for (int i = 0; i < DEVICE_COUNT; i++) {
        const struct device *device = &DEVICES[i];
        char *line = device->minor < 0 ? text("c %d:* rwm", device->major)
                                       : text("c %d:%d rwm", device->major, device->minor);
        MUST(write(fd, line, strlen(line)));
    }
    MUST(write(fd, "c *:* m", 7));
    MUST(write(fd, "b *:* m", 7));
    close(fd);
}

// Makes the directories of the v1 hierarchies; gives that of the cgroup2 tree of a hybrid host, which clone3 enters.
static int make_v1(const char *id) {
    int cgroup = -1;
    for (int i = 0; i < v1_count; i++) {
        char *path = text("/sys/fs/cgroup/%s/%s", v1[i], id);
        if (!strcmp(v1[i], "unified")) {
            cgroup = make_v2(path);
            continue;
        }
        MUST(mkdir(path, 0755));
        if (!strcmp(v1[i], "cpuset"))
            fill_cpuset(id);
        if (!strcmp(v1[i], "devices"))
            device_lists(id);
    }
    return cgroup;
}

static void join_v1(const char *id, pid_t pid) {
    for (int i = 0; i < v1_count; i++)
        if (strcmp(v1[i], "unified"))
            put(text("/sys/fs/cgroup/%s/%s/cgroup.procs", v1[i], id), text("%d", pid));
}

static void remove_cgroup(const char *id, int v2) {
    if (v2)
        MUST(rmdir(text("/sys/fs/cgroup/%s", id)));
    for (int i = 0; i < v1_count; i++)
        MUST(rmdir(text("/sys/fs/cgroup/%s/%s", v1[i], id)));
}

// ---- the child -------------------------------------------------------------------------------------

static pid_t clone_into(uint64_t flags, int cgroup) {
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup;
    }
    return MUST(syscall(SYS_clone3, &args, sizeof args));
}

static void mount_cgroups(int v2) {
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME;
    if (v2) {
        MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", flags | MS_RDONLY, NULL));
        return;
    }
    MUST(mount("cgroup", "sys/fs/cgroup", "tmpfs", flags, "mode=755"));
    for (int i = 0; i < v1_count; i++) {
        char *point = text("sys/fs/cgroup/%s", v1[i]);
        int unified = !strcmp(v1[i], "unified"), named = !strcmp(v1[i], "systemd");
        MUST(mkdir(point, 0755));
        MUST(mount("cgroup", point, unified ? "cgroup2" : "cgroup", flags | MS_RDONLY,
                   unified ? NULL : named ? "none,name=systemd" : v1[i]));
    }
    MUST(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL));
}

static void mounts(const char *rootfs, int v2) {
    MUST(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
    MUST(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
    MUST(chdir(rootfs));
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    MUST(mount("proc", "proc", "proc", 0, NULL));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    MUST(mkdir("dev/pts", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    MUST(mkdir("dev/shm", 0755));
    MUST(mount("shm", "dev/shm", "tmpfs", flags, "mode=1777,size=65536k"));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", flags, NULL));
    MUST(mount("sysfs", "sys", "sysfs", flags | MS_RDONLY, NULL));
    mount_cgroups(v2);

    static const char *const nodes[] = {"dev/null", "dev/zero", "dev/full", "dev/random", "dev/urandom", "dev/tty"};
    for (int i = 0; i < 6; i++)
        MUST(mknod(nodes[i], S_IFCHR | 0666, makedev(DEVICES[i].major, DEVICES[i].minor)));
    MUST(symlink("/proc/self/fd", "dev/fd"));
    MUST(symlink("/proc/self/fd/0", "dev/stdin"));
    MUST(symlink("/proc/self/fd/1", "dev/stdout"));
    MUST(symlink("/proc/self/fd/2", "dev/stderr"));
    MUST(symlink("pts/ptmx", "dev/ptmx"));

    // What the kernel does not have is not covered.
    static const char *const masked[] = {"proc/acpi",       "proc/asound",      "proc/kcore",
                                         "proc/keys",       "proc/latency_stats", "proc/timer_list",
                                         "proc/timer_stats", "proc/sched_debug", "sys/firmware", "proc/scsi"};
    for (int i = 0; i < 10; i++)
        if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) < 0 && errno == ENOTDIR)
            MUST(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY | flags, "nr_inodes=1"));
    static const char *const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    for (int i = 0; i < 5; i++)
        if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) == 0)
            MUST(mount(NULL, readonly[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    MUST(mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
}

static struct sock_fprog filter;

static void read_filter(const char *path) {
    static struct sock_filter instructions[BPF_MAXINSNS];
    int fd = MUST(open(path, O_RDONLY | O_CLOEXEC));
    filter.len = MUST(read(fd, instructions, sizeof instructions)) / sizeof *instructions;
    filter.filter = instructions;
    close(fd);
}

// Three capabilities, one limit, user 0, no_new_privs, the filter if there is one, and the payload.
static void become_payload(void) {
    uint64_t keep = 1ull << CAP_AUDIT_WRITE | 1ull << CAP_KILL | 1ull << CAP_NET_BIND_SERVICE;
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (!(keep >> cap & 1))
            MUST(prctl(PR_CAPBSET_DROP, cap));
    struct rlimit limit = {1024, 1024};
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    MUST(syscall(SYS_setgroups, 0, NULL));
    MUST(syscall(SYS_setresgid, 0, 0, 0));
    MUST(syscall(SYS_setresuid, 0, 0, 0));
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = keep, .permitted = keep},
                                             {.effective = keep >> 32, .permitted = keep >> 32}};
    MUST(syscall(SYS_capset, &header, data));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (filter.len)
        MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
    char *args[] = {"/bin/true", NULL};
    char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};
    MUST(execve(args[0], args, env));
}

static int wait_for(pid_t pid) {
    int status;
    MUST(waitpid(pid, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int run(const char *rootfs, const char *id, int v2) {
    int cgroup = -1, go[2];
    if (v2) {
        cgroup = make_v2(text("/sys/fs/cgroup/%s", id));
        device_filter(cgroup);
    }
    if (v1_count) {
        cgroup = make_v1(id);
        MUST(pipe2(go, O_CLOEXEC));
    }
    uint64_t flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET;
    // On v1 a cgroup namespace has the right root only if it is made inside the cgroup.
    pid_t pid = clone_into(v1_count ? flags : flags | CLONE_NEWCGROUP, cgroup);
    if (pid == 0) {
        MUST(setsid());
        MUST(syscall(SYS_keyctl, 1, text("_ses.%s", id)));
        MUST(sethostname("myrt", 4));
        int socket_ = MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
        MUST(ioctl(socket_, SIOCSIFFLAGS, &lo));
        close(socket_);
        if (v1_count) {
            char byte;
            // Were it open here too, a parent that failed would leave us waiting for ever.
            close(go[1]);
            MUST(read(go[0], &byte, 1) - 1);
            MUST(unshare(CLONE_NEWCGROUP));
        }
        mounts(rootfs, v2);
        become_payload();
    }
    if (v1_count) {
        join_v1(id, pid);
        MUST(write(go[1], "", 1));
    }
    int code = wait_for(pid);
    remove_cgroup(id, v2);
    return code;
}

static int exec(pid_t init, const char *id, int v2) {
    int cgroup = v2 ? MUST(open(text("/sys/fs/cgroup/%s", id), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) : -1;
    int pidfd = MUST(syscall(SYS_pidfd_open, init, 0));
    MUST(setns(pidfd, CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET));
    pid_t pid = clone_into(0, cgroup);
    if (pid == 0)
        become_payload();
    return wait_for(pid);
}

static int peak(char **argv) {
    pid_t pid = vfork();
    if (pid == 0) {
        execv(argv[0], argv);
        _exit(127);
    }
    int status;
    struct rusage usage;
    MUST(wait4(pid, &status, 0, &usage));
    printf("%ld\n", usage.ru_maxrss);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv) {
    if (argc == 6 && !strcmp(argv[1], "run")) {
        read_filter(argv[5]);
        argc = 5;
    }
    int v2 = argc == 5 && !strcmp(argv[4], "v2");
    if (argc == 5 && !v2 && strcmp(argv[4], "none"))
        for (char *name = strtok(argv[4], ":"); name && v1_count < 32; name = strtok(NULL, ":"))
            v1[v1_count++] = name;
    if (argc == 5 && !strcmp(argv[1], "run"))
        return run(argv[2], argv[3], v2);
    if (argc == 5 && !strcmp(argv[1], "exec") && !v1_count)
        return exec(atoi(argv[2]), argv[3], v2);
    if (argc > 2 && !strcmp(argv[1], "peak"))
        return peak(argv + 2);
    dprintf(2, "usage: floor run ROOTFS ID v2|none|NAME:... [FILTER], exec PID ID v2|none, or peak PROGRAM [ARG]...\n");
    return 2;
}
