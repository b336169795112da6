;; trick: _initialize is named as the handler: run once before, and at every hit
;; end: fine
(module
  (func (export "_initialize"))
  (@custom "trocar.manifest" "{\"abi\":1,\"name\":\"p\",\"handlers\":[{\"name\":\"_initialize\"}]}"))
