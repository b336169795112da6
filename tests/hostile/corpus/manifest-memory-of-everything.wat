;; trick: a wish for 16 EiB of memory
;; end: refused limits.memory_bytes
(module
  (func (export "on_hit") (nop))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"limits\":{\"memory_bytes\":18446744073709551615}}"))
