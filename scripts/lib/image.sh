# shellcheck shell=sh
# shellcheck disable=SC2154 # $scratch is the caller's
# image.sh: makes an image from programs of this machine, and serves images on loopback. Sourced, never run: the caller
# has sourced setup.sh, and $scratch is a directory of its own that everybody may read.

# make_image FILE NAME: an archive as `docker save` writes it, with one image of busybox and nginx, their libraries, and the
# users root and www-data.
make_image() {
  root=$scratch/image
  mkdir -p "$root/bin" "$root/usr/sbin" "$root/etc/nginx" "$root/tmp" "$root/run" "$root/var/log/nginx" \
    "$root/var/www/html" "$root/var/lib/nginx"
  chmod 1777 "$root/tmp"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for applet in $("$root/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
  done
  cp "$(command -v nginx)" "$root/usr/sbin/nginx"
  # ldd(1): `libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)`, and the loader as a path alone.
  for library in $(ldd "$root/usr/sbin/nginx" | sed -n 's/^.*[[:space:]]\(\/[^ ]*\) (0x.*$/\1/p'); do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\nwww-data:x:33:\n' >"$root/etc/group"
  cat >"$root/etc/nginx/nginx.conf" <<'TXT'
user www-data;
events {}
http {
  access_log /var/log/nginx/access.log;
  error_log /var/log/nginx/error.log;
  server {
    listen 80;
    root /var/www/html;
  }
}
TXT
  tar --owner=0 --group=0 --numeric-owner -C "$root" -cf "$scratch/layer.tar" .
  rm -rf "$root"
  case $(uname -m) in
  aarch64) architecture=arm64 ;;
  *) architecture=amd64 ;;
  esac
  digest=$(sha256sum "$scratch/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"%s","os":"linux","config":{"Cmd":["/bin/sh"],"Env":["PATH=/usr/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$architecture" "$digest" >"$scratch/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$2" >"$scratch/manifest.json"
  tar -C "$scratch" -cf "$1" manifest.json config.json layer.tar
  rm -f "$scratch/manifest.json" "$scratch/config.json" "$scratch/layer.tar"
  chmod 644 "$1"
}

# serve_images: Debian's docker-registry, as the ordinary user, at a free port of loopback; sets $registry (localhost:PORT)
# and $registry_pid. Its files are in $1, which belongs to that user.
serve_images() {
  cat >"$scratch/registry.yml" <<TXT
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: $1}}
http: {addr: "127.0.0.1:0"}
TXT
  chmod 644 "$scratch/registry.yml"
  # shellcheck disable=SC2016 # that shell's own pid, which becomes docker-registry's
  as_user sh -c 'echo "pid $$"; exec docker-registry serve "$1"' sh "$scratch/registry.yml" >"$scratch/registry.log" 2>&1 &
  tries=0
  # It chooses a port itself and says which.
  until port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$scratch/registry.log") && [ -n "$port" ]; do
    tries=$((tries + 1))
    if [ $tries -ge 100 ]; then
      cat "$scratch/registry.log" >&2
      die 'docker-registry did not start'
    fi
    sleep 0.1
  done
  # shellcheck disable=SC2034 # for the caller
  registry_pid=$(sed -n 's/^pid //p' "$scratch/registry.log")
  # shellcheck disable=SC2034 # for the caller
  registry=localhost:$port
}
