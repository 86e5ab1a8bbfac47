// The kernel floor: the system calls that no container engine can leave out, and nothing else, in one static process.
//
//   floor ROOTFS [net] [veth] [cgroups]
//
// For each line on stdin it starts /bin/true of ROOTFS in a container of its own and prints the microseconds from before the
// overlay mount to after the tear-down. Namespaces: mount, UTS, IPC, PID, cgroup; `net` adds a network namespace with `lo` up,
// `veth` a veth pair on the bridge floor0 with address and default route, `cgroups` one new group in every cgroup v1 controller.
// It works in the current directory, which must not be on an overlay, and expects a network namespace that it may change.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONTROLLERS = 16 };
static const char *const CGROUPS = "/sys/fs/cgroup";
static char controllers[MAX_CONTROLLERS][256];
static int controller_count;

#define CHECK(call) do { if ((call) < 0) fail(#call); } while (0)
static void fail(const char *what) {
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  _exit(111);
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int has_word(int count, char **words, const char *word) {
  for (int i = 0; i < count; i++)
    if (!strcmp(words[i], word)) return 1;
  return 0;
}

// --- rtnetlink: one request, one acknowledgement ---

static struct { struct nlmsghdr header; char body[1024]; } request;

static void *append(const void *data, size_t size) {
  void *at = (char *)&request + NLMSG_ALIGN(request.header.nlmsg_len);
  memcpy(at, data, size);
  request.header.nlmsg_len = NLMSG_ALIGN(request.header.nlmsg_len) + size;
  return at;
}

static void begin_request(int type, int flags, const void *fixed, size_t size) {
  memset(&request, 0, sizeof request);
  request.header = (struct nlmsghdr){.nlmsg_len = NLMSG_HDRLEN, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags};
  append(fixed, size);
}

static struct rtattr *attribute(int type, const void *data, size_t size) {
  struct rtattr head = {.rta_type = type, .rta_len = RTA_LENGTH(size)};
  struct rtattr *at = append(&head, sizeof head);
  if (size) append(data, size);
  return at;
}

static void close_nest(struct rtattr *nest) { nest->rta_len = (char *)&request + request.header.nlmsg_len - (char *)nest; }

static void send_request(int netlink) {
  char answer[4096];
  CHECK(send(netlink, &request, request.header.nlmsg_len, 0));
  CHECK(recv(netlink, answer, sizeof answer, 0));
  struct nlmsghdr *header = (void *)answer;
  struct nlmsgerr *error = NLMSG_DATA(header);
  if (header->nlmsg_type == NLMSG_ERROR && error->error) errno = -error->error, fail("netlink request");
}

static int netlink_socket(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  CHECK(fd);
  return fd;
}

static void link_up(int netlink, int index) {
  struct ifinfomsg link = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  begin_request(RTM_NEWLINK, 0, &link, sizeof link);
  send_request(netlink);
}

static int make_bridge(int netlink) {
  struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  begin_request(RTM_NEWLINK, NLM_F_CREATE, &link, sizeof link);
  attribute(IFLA_IFNAME, "floor0", 7);
  struct rtattr *info = attribute(IFLA_LINKINFO, 0, 0);
  attribute(IFLA_INFO_KIND, "bridge", 6);
  close_nest(info);
  send_request(netlink);
  return if_nametoindex("floor0");
}

static void make_veth(int netlink, int bridge, int peer, unsigned run) {
  char name[IFNAMSIZ];
  struct ifinfomsg link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}, far = {0};
  snprintf(name, sizeof name, "fl%u", run);
  begin_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
  attribute(IFLA_IFNAME, name, strlen(name) + 1);
  attribute(IFLA_MASTER, &bridge, sizeof bridge);
  struct rtattr *info = attribute(IFLA_LINKINFO, 0, 0);
  attribute(IFLA_INFO_KIND, "veth", 4);
  struct rtattr *data = attribute(IFLA_INFO_DATA, 0, 0);
  struct rtattr *other = attribute(VETH_INFO_PEER, 0, 0);
  append(&far, sizeof far);
  attribute(IFLA_IFNAME, "eth0", 5);
  attribute(IFLA_NET_NS_PID, &peer, sizeof peer);
  close_nest(other), close_nest(data), close_nest(info);
  send_request(netlink);
}

static void configure_eth0(int netlink) {
  uint32_t address = htonl(0x0ac80002), gateway = htonl(0x0ac80001);
  int index = if_nametoindex("eth0");
  struct ifaddrmsg message = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = index};
  begin_request(RTM_NEWADDR, NLM_F_CREATE, &message, sizeof message);
  attribute(IFA_LOCAL, &address, 4);
  attribute(IFA_ADDRESS, &address, 4);
  send_request(netlink);
  link_up(netlink, index);
  struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
  begin_request(RTM_NEWROUTE, NLM_F_CREATE, &route, sizeof route);
  attribute(RTA_GATEWAY, &gateway, 4);
  send_request(netlink);
}

// --- cgroup v1 ---

static void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  CHECK(fd);
  CHECK(write(fd, text, strlen(text)));
  close(fd);
}

static void find_controllers(void) {
  DIR *directory = opendir(CGROUPS);
  if (!directory) fail(CGROUPS);
  for (struct dirent *entry; (entry = readdir(directory)) && controller_count < MAX_CONTROLLERS;)
    if (entry->d_name[0] != '.' && strcmp(entry->d_name, "unified"))
      snprintf(controllers[controller_count++], sizeof controllers[0], "%s", entry->d_name);
  closedir(directory);
}

static void group_path(char *path, size_t size, int controller, unsigned run, const char *file) {
  snprintf(path, size, "%s/%s/floor-%d-%u%s", CGROUPS, controllers[controller], getpid(), run, file);
}

static void make_groups(unsigned run) {
  char path[512], text[64];
  for (int i = 0; i < controller_count; i++) {
    group_path(path, sizeof path, i, run, "");
    CHECK(mkdir(path, 0755));
    if (strcmp(controllers[i], "cpuset")) continue;
    group_path(path, sizeof path, i, run, "/cpuset.cpus");
    snprintf(text, sizeof text, "0-%ld", sysconf(_SC_NPROCESSORS_ONLN) - 1);
    write_file(path, text);
    group_path(path, sizeof path, i, run, "/cpuset.mems");
    write_file(path, "0");
  }
}

static void join_groups(unsigned run, int pid) {
  char path[512], text[16];
  snprintf(text, sizeof text, "%d", pid);
  for (int i = 0; i < controller_count; i++) {
    group_path(path, sizeof path, i, run, "/cgroup.procs");
    write_file(path, text);
  }
}

static void remove_groups(unsigned run) {
  char path[512];
  for (int i = 0; i < controller_count; i++) {
    group_path(path, sizeof path, i, run, "");
    CHECK(rmdir(path));
  }
}

// --- the container ---

static void enter_root(void) {
  static const struct { const char *name; int major, minor; } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/tty", 5, 0}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};
  const unsigned long strict = MS_NOSUID | MS_NOEXEC | MS_NODEV;
  CHECK(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
  CHECK(chdir("mnt"));
  CHECK(mount("proc", "proc", "proc", strict, 0));
  CHECK(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
  CHECK(mkdir("dev/pts", 0755));
  CHECK(mkdir("dev/shm", 0755));
  CHECK(mkdir("dev/mqueue", 0755));
  CHECK(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
  CHECK(mount("shm", "dev/shm", "tmpfs", strict, "mode=1777,size=65536k"));
  CHECK(mount("mqueue", "dev/mqueue", "mqueue", strict, 0));
  CHECK(mount("sysfs", "sys", "sysfs", strict | MS_RDONLY, 0));
  umask(0);
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) CHECK(mknod(nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
  CHECK(syscall(SYS_pivot_root, ".", "."));
  CHECK(umount2(".", MNT_DETACH));
  CHECK(chdir("/"));
  CHECK(sethostname("floor", 5));
}

struct variant { int net, veth, cgroups, netlink, bridge; const char *rootfs; };

static void run_child(const struct variant *v, int go) {
  char byte;
  if ((v->veth || v->cgroups) && read(go, &byte, 1) != 1) _exit(112);
  enter_root();
  if (v->net) {
    int netlink = netlink_socket();
    link_up(netlink, 1);
    if (v->veth) configure_eth0(netlink);
  }
  char *argv[] = {"/bin/true", 0}, *env[] = {0};
  execve(argv[0], argv, env);
  fail("execve /bin/true");
}

static double run_once(const struct variant *v, unsigned run) {
  char upper[32], work[32], options[4096];
  snprintf(upper, sizeof upper, "up/%u", run);
  snprintf(work, sizeof work, "wk/%u", run);
  double begin = now_us();
  CHECK(mkdir(upper, 0755));
  CHECK(mkdir(work, 0755));
  snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", v->rootfs, upper, work);
  CHECK(mount("overlay", "mnt", "overlay", 0, options));
  if (v->cgroups) make_groups(run);
  int go[2], status;
  CHECK(pipe2(go, O_CLOEXEC));
  int flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | (v->net ? CLONE_NEWNET : 0);
  int pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
  CHECK(pid);
  if (!pid) run_child(v, go[0]);
  if (v->cgroups) join_groups(run, pid);
  if (v->veth) make_veth(v->netlink, v->bridge, pid, run);
  if (v->veth || v->cgroups) CHECK(write(go[1], "x", 1));
  close(go[0]), close(go[1]);
  CHECK(waitpid(pid, &status, 0));
  CHECK(umount2("mnt", 0));
  if (v->cgroups) remove_groups(run);
  double spent = now_us() - begin;
  if (status) errno = 0, fail("the container's process failed");
  char inner[48];
  snprintf(inner, sizeof inner, "%s/work", work);
  rmdir(inner), rmdir(work), rmdir(upper);
  return spent;
}

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: floor ROOTFS [net] [veth] [cgroups]\n"), 2;
  struct variant v = {.rootfs = argv[1], .veth = has_word(argc, argv, "veth"), .cgroups = has_word(argc, argv, "cgroups")};
  v.net = v.veth || has_word(argc, argv, "net");
  CHECK(unshare(CLONE_NEWNS));
  CHECK(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
  v.netlink = netlink_socket();
  if (v.veth) v.bridge = make_bridge(v.netlink);
  if (v.cgroups) find_controllers();
  mkdir("up", 0755), mkdir("wk", 0755), mkdir("mnt", 0755);
  char line[64];
  for (unsigned run = 0; fgets(line, sizeof line, stdin); run++) {
    printf("%.1f\n", run_once(&v, run));
    fflush(stdout);
  }
  return 0;
}
