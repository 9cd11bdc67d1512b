fetch_all() {
    cat "$1"
}
