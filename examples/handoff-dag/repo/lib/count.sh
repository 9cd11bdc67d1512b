. lib/read.sh
count_lines() {
    fetch_all "$1" | grep -c .
}
