# shellcheck shell=sh
# guest.sh: stage 2 of uml-run and qemu-run: pid 1 in the guest. Its root already is an overlay over the host's root, and
# the run directory is mounted on /run/vm. Sets up what a machine has, then runs /run/vm/cmd and powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# shellcheck source=/dev/null
. /run/vm/conf
: "${user:?}" "${new_uid:?}" "${asroot:?}" "${mode:?}" "${wd:?}" "${modules:?}" "${out_device:?}" "${err_device:?}"
cd /

mount_kernel_filesystems() {
  mountpoint -q /proc || mount -t proc proc /proc
  mountpoint -q /sys || mount -t sysfs sysfs /sys
  mountpoint -q /dev || mount -t devtmpfs dev /dev
  mount -t securityfs securityfs /sys/kernel/security
  mkdir -p /dev/pts /dev/shm /dev/mqueue
  mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts /dev/pts
  mount -t mqueue mqueue /dev/mqueue
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  ln -sfn /proc/self/fd /dev/fd
  ln -sfn /proc/self/fd/0 /dev/stdin
  ln -sfn /proc/self/fd/1 /dev/stdout
  ln -sfn /proc/self/fd/2 /dev/stderr
}

# /tmp becomes a tmpfs; a working directory below it stays visible.
replace_tmp() {
  case $wd/ in /tmp/*)
    mkdir /run/wd
    mount --bind "$wd" /run/wd
    ;;
  esac
  case $modules/ in /tmp/*) modules=/run/host$modules ;; esac
  mount -t tmpfs -o mode=1777 tmpfs /tmp
  case $wd/ in /tmp/?*)
    mkdir -p "$wd"
    mount --move /run/wd "$wd"
    ;;
  esac
  [ ! "${out-}" ] || {
    mkdir -p "$out"
    mount -t tmpfs -o mode=1777 tmpfs "$out"
  }
}

# A link, not a mount: nothing may be mounted below /usr or /etc, else these could not be lower layers of an overlay in a
# user namespace (mounts that are locked below it: EINVAL).
load_modules() {
  release=$(uname -r)
  [ ! -d "$modules/$release" ] || [ -d "/lib/modules/$release" ] || {
    mkdir -p /lib/modules
    ln -sfn "$modules/$release" "/lib/modules/$release"
  }
  for module in ${load-}; do modprobe "$module"; done
  for device in /dev/net/tun /dev/fuse; do [ ! -e $device ] || chmod 666 $device; done
}

make_user() {
  if ! id "$user" >/dev/null 2>&1; then
    echo "$user:*:$new_uid:$new_uid::/home/$user:/bin/sh" >>/etc/passwd # no line in shadow needed
    echo "$user:x:$new_uid:" >>/etc/group
    mkdir -p "/home/$user"
    chown "$new_uid:$new_uid" "/home/$user"
  fi
  uid=$(id -u "$user")
  gid=$(id -g "$user")
  for file in subuid subgid; do
    grep -q "^$user:" /etc/$file 2>/dev/null || echo "$user:$((1000000 + uid * 65536)):65536" >>/etc/$file
  done
  [ "${disk-}" ] || return 0
  modprobe virtio_blk 2>/dev/null
  modprobe ext4 2>/dev/null
  tries=0
  while [ ! -b "$disk" ] && [ $tries -lt 20 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
  mkdir -p /mnt/home
  mount -t ext4 "$disk" /mnt/home && chown "$uid:$gid" /mnt/home
}

# Two FIFOs, copied to two raw devices of the guest. /run/finish STATUS waits until the output has drained, but not for
# daemons that hold it open.
open_output() {
  for device in $out_device $err_device; do stty -F "$device" raw -echo 2>/dev/null; done
  mkfifo /run/out /run/err
  chown "$uid" /run/out /run/err
  (exec setsid cat /run/out >"$out_device") &
  out_writer=$!
  (exec setsid cat /run/err >"$err_device") &
  err_writer=$!
  cat >/run/finish <<FINISH
echo "\$1" >/run/vm/status
tries=0
while { kill -0 $out_writer || kill -0 $err_writer; } 2>/dev/null && [ \$tries -lt 10 ]; do
  sleep 0.1
  tries=\$((tries + 1))
done
for device in $out_device $err_device; do stty -F "\$device" raw 2>/dev/null; done # waits for it to drain
[ ! "${out-}" ] || { mkdir /run/vm/out; cp -R "${out-}/." /run/vm/out/; }
dmesg >/run/vm/dmesg
sync
systemctl poweroff -ff || poweroff -ff || echo o >/proc/sysrq-trigger
FINISH
}

# Of what the host has enabled nothing: only what systemd itself wants, and ours. Without udev nobody would set the modes
# of /dev/net/tun and /dev/fuse again, so the units that reset them are masked, too. Nobody sits at the console: where
# systemd would ask for help, the run is over.
write_units() {
  units=/etc/systemd/system
  rm -rf $units
  mkdir $units
  for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-udev-trigger.service systemd-udev-settle.service systemd-hwdb-update.service \
    systemd-journal-catalog-update.service systemd-update-done.service systemd-random-seed.service \
    systemd-update-utmp.service systemd-machine-id-commit.service systemd-firstboot.service \
    systemd-sysusers.service systemd-journal-flush.service systemd-binfmt.service systemd-pstore.service \
    systemd-boot-system-token.service systemd-remount-fs.service systemd-modules-load.service \
    systemd-tmpfiles-clean.timer systemd-ask-password-wall.path systemd-ask-password-console.path \
    kmod-static-nodes.service systemd-tmpfiles-setup-dev.service \
    apparmor.service keyboard-setup.service console-setup.service modprobe@.service \
    dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    proc-sys-fs-binfmt_misc.automount fstrim.timer e2scrub_all.timer; do
    ln -s /dev/null $units/$unit
  done
  # No generator either (systemd.generator(7)): what they find out about a machine is of no use here, and takes seconds.
  for kind in system-generators user-generators user-environment-generators system-environment-generators; do
    rm -rf /etc/systemd/$kind
    mkdir -p /etc/systemd/$kind
    for generator in "/usr/lib/systemd/$kind"/* "/lib/systemd/$kind"/*; do
      ln -sf /dev/null "/etc/systemd/$kind/${generator##*/}"
    done
  done
  for unit in rescue emergency; do
    printf '[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\n%s\n' \
      'ExecStart=/bin/sh -c "dmesg > /run/vm/dmesg; sync; systemctl poweroff -ff"' >$units/$unit.service
  done
  : >/etc/fstab
  mkdir -p /etc/tmpfiles.d
  ln -sf /dev/null /etc/tmpfiles.d/tmp.conf # or it would empty /tmp
  [ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef >/etc/machine-id
  printf '%s\n' 'auth required pam_permit.so' 'account required pam_permit.so' \
    'session required pam_permit.so' 'session optional pam_systemd.so' >/etc/pam.d/sandpod-lab
  rm -f /etc/pam.d/systemd-user
  cp /etc/pam.d/sandpod-lab /etc/pam.d/systemd-user
  [ "${deleg-}" ] || deleg='cpu cpuset io memory pids'
  # `Delegate=` lines add up: emptied first.
  if [ "$deleg" != default ]; then
    mkdir -p $units/user@.service.d
    printf '[Service]\nDelegate=\nDelegate=%s\n' "$deleg" >$units/user@.service.d/delegate.conf
  fi
  cat >/run/stopped <<'STOPPED'
case $EXIT_CODE in
exited) status=$EXIT_STATUS ;;
*) status=$((128 + $(/bin/kill -l "$EXIT_STATUS"))) ;;
esac
case $status in *[!0-9]* | '') status=125 ;; esac
set -- "$status"
. /run/finish
STOPPED
  if [ "$asroot" = 1 ]; then who=root; else who=$user; fi
  cat >$units/sandpod-lab.service <<UNIT
[Unit]
Requires=dbus.socket systemd-logind.service
After=dbus.socket systemd-logind.service systemd-user-sessions.service basic.target
[Service]
Type=oneshot
User=$who
PAMName=sandpod-lab
Environment=LANG=C.UTF-8 PATH=$PATH
ExecStart=/bin/sh -c 'exec /bin/sh /run/vm/cmd >/run/out 2>/run/err'
StandardInput=null
ExecStopPost=+/bin/sh /run/stopped
KillMode=mixed
TimeoutSec=infinity
UNIT
}

# delegate DIR: to the user, exactly as the kernel says (/sys/kernel/cgroup/delegate).
delegate() {
  mkdir -p "$1"
  chown "$uid:$gid" "$1"
  while read -r file; do
    [ ! -e "$1/$file" ] || chown "$uid:$gid" "$1/$file"
  done </sys/kernel/cgroup/delegate
}

# Without systemd: cgroup v2 laid out as systemd does it, and the command in a scope of the user's.
run_plain() {
  mkdir -p "/run/user/$uid"
  mount -t tmpfs -o "mode=700,uid=$uid,gid=$gid" tmpfs "/run/user/$uid"
  top=/sys/fs/cgroup
  mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 $top
  [ "${deleg-}" ] || deleg=$(cat $top/cgroup.controllers)
  enable=''
  for controller in $deleg; do enable="$enable +$controller"; done
  mkdir $top/init.scope
  for pid in 1 $out_writer $err_writer; do echo "$pid" >$top/init.scope/cgroup.procs; done
  dir=$top
  for name in user.slice "user-$uid.slice" "user@$uid.service" app.slice; do
    echo "$enable" >"$dir/cgroup.subtree_control"
    dir=$dir/$name
    mkdir "$dir"
  done
  DELEGATED=${dir%/*}
  delegate "$DELEGATED"
  delegate "$dir"
  echo "$enable" >"$dir/cgroup.subtree_control"
  delegate "$dir/run.scope"
  export DELEGATED LANG=C.UTF-8
  sh /run/vm/pre
  if [ "$asroot" = 1 ]; then
    HOME=/root USER=root LOGNAME=root setsid -w sh /run/vm/cmd </dev/null >/run/out 2>/run/err
  else
    # shellcheck disable=SC2016 # for the inner shell
    XDG_RUNTIME_DIR="/run/user/$uid" sh -c 'echo 0 >"$0/cgroup.procs" || exit 125
      exec setsid -w setpriv --reuid "$1" --regid "$2" --init-groups --reset-env -- \
        env DELEGATED="$DELEGATED" XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR" LANG="$LANG" PATH="$PATH" \
        sh /run/vm/cmd' "$dir/run.scope" "$uid" "$gid" </dev/null >/run/out 2>/run/err
  fi
  set -- $?
  # shellcheck source=/dev/null
  . /run/finish
}

mount_kernel_filesystems
replace_tmp
load_modules
ip link set lo up
hostname sandpod-lab
echo sandpod-lab >/etc/hostname
echo '127.0.0.1 localhost sandpod-lab' >/etc/hosts
make_user
open_output
[ "$mode" = systemd ] || run_plain
write_units
sh /run/vm/pre
exec /lib/systemd/systemd --system --unit=sandpod-lab.service --show-status=0 --log-target=console --log-level=notice
