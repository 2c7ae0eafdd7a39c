"""What runs inside the small guest: shell scripts for busybox."""

from __future__ import annotations

INIT = r"""#!/bin/busybox sh
export PATH=/bin HOME=/ TERM=vt100
/bin/busybox mkdir -p /proc /sys /dev /mnt /run /tmp /var/run
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
exec </dev/console >/dev/console 2>&1
echo "NOVALITE-GUEST init"
for module in $(cat /modules); do modprobe -q "$module"; done
acpid -l /dev/null  # there is no /var/log

# the first string of that name in a JSON file, as it is written there
value() { grep -oE "\"$1\": *\"([^\"\\\\]|\\\\.)*\"" "$2" | head -n 1 | sed 's/^[^:]*: *"//; s/"$//'; }

tell() {
    uuid=$(value uuid "$1"); name=$(value name "$1")
    hostname "$(value hostname "$1")"
    echo "NOVALITE-GUEST instance-id=$uuid name=$name source=$2"
}

# disks show up a moment after their drivers
for try in 1 2 3 4 5 6 7 8; do
    drive=$(findfs LABEL=config-2 2>/dev/null) && break
    usleep 100000
done
found=
if [ -n "$drive" ] && mount -t iso9660 -o ro "$drive" /mnt; then
    found=/mnt/openstack/latest/meta_data.json
    [ -r "$found" ] && tell "$found" config-drive
fi

network() {
    for card in /sys/class/net/*; do
        card=${card##*/}
        [ "$card" = lo ] && continue
        ip link set "$card" up
        udhcpc -i "$card" -n -q -f -t 4 -T 2 -s /udhcpc >/dev/null 2>&1 \
            && echo "NOVALITE-GUEST address=$(ip -4 -o addr show dev "$card" | awk '{print $4}') card=$card"
    done
    # timeout: wget's own -T crashes
    asked=/run/meta_data.json
    timeout 5 wget -q -O $asked http://169.254.169.254/openstack/latest/meta_data.json || return
    if [ -z "$found" ]; then tell $asked metadata-service
    # else it may be that of the cloud that our host is a guest of
    elif [ "$(value uuid $asked)" = "$(value uuid $found)" ]; then
        echo "NOVALITE-GUEST metadata-service says the same"
    fi
}
ip link set lo up
network &

echo "NOVALITE-GUEST ready uptime=$(cut -d' ' -f1 /proc/uptime)"

script=/mnt/openstack/latest/user_data
if [ "$(head -c 2 "$script" 2>/dev/null)" = '#!' ]; then
    cp "$script" /run/user_data; chmod 700 /run/user_data
    /run/user_data </dev/null
    echo "NOVALITE-GUEST user-data status=$?"
fi
while :; do setsid cttyhack sh; sleep 1; done
"""

UDHCPC = r"""#!/bin/busybox sh
case "$1" in
deconfig) ip addr flush dev "$interface" ;;
bound|renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    for gateway in $router; do ip route add default via "$gateway" dev "$interface"; break; done
    mkdir -p /etc; : >/etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done ;;
esac
"""

POWER_BUTTON = r"""#!/bin/busybox sh
echo "NOVALITE-GUEST power-button" >/dev/console
sync
poweroff -f
"""
