// Cada alerta em português (Brasil): o que significa e o que fazer. Os mesmos alertas de runner.alerts.rules (tests/unit/test_dashboard_files.py).
export default {
  alerts_undelivered: [
    "um webhook ou outro canal não aceitou um aviso depois de todas as tentativas, na última hora",
    "conserte o destino ou a configuração; o que se perdeu está em alerts.log e no histórico",
  ],
  breaker_open: [
    "uma sessão falhou tantas vezes sozinha que o seu disjuntor abriu; ela tenta de novo mais tarde",
    "conserte o que o motivo diz e rearme o disjuntor",
  ],
  certificate_trouble: [
    "uma sessão não consegue entrar porque o certificado do servidor é recusado",
    "acerte o relógio; se ele está certo, algo no caminho abre o TLS: não contorne, use outro caminho",
  ],
  client_outdated: [
    "o servidor recusa a versão do cliente; ninguém disca até que se conheça uma mais nova",
    "use WHATSAPP_CLIENT_VERSION=auto, ou a versão que web.whatsapp.com serve agora; atualize o runner",
  ],
  clock_stepped: [
    "o relógio foi mudado em mais de 2 s nos últimos cinco minutos; os tempos de espera foram mantidos",
    "rode um serviço de hora que ajusta aos poucos; um relógio muito errado faz certificados parecerem vencidos",
  ],
  connection_drops: [
    "um quinto das sessões ou mais perdeu a conexão em um minuto, e pode acontecer de novo",
    "nada, se foi uma vez: elas voltam sozinhas; senão verifique a rede, os proxies e as tabelas de NAT",
  ],
  cpu_high: [
    "a CPU do cgroup, ou então da máquina, está ocupada há um minuto",
    "dê mais núcleos à máquina, diminua WHATSAPP_CONNECT_RATE, ou leve sessões para outra máquina",
  ],
  dead_sockets: [
    "conexões silenciaram e pings sem resposta mostraram que estavam mortas: uma em cinquenta em um minuto",
    "um NAT ou firewall esquece conexões: diminua WHATSAPP_KEEPALIVE_MAX, ou troque o proxy",
  ],
  deaf_fleet: [
    "mais de 5 % das sessões respondem a pings e não recebem mais nada; nada é refeito",
    "a falha é do servidor ou nossa, não delas: espere, e reinicie o runner se continuar",
  ],
  disk_full: [
    "nada pode ser gravado, então nada que chega é respondido; nada do que foi respondido se perde",
    "libere espaço; tudo continua sozinho",
  ],
  disk_space_low: [
    "o sistema de arquivos do diretório de dados está quase cheio",
    "libere espaço ou aumente o sistema de arquivos antes que encha: cheio, nada que chega é respondido",
  ],
  engine_full: [
    "o motor não tem lugar para uma discagem há meio minuto: os seus eventos não são recolhidos",
    "ache o que segura a thread do Python; reinicie o runner, e relate",
  ],
  engine_lag: [
    "a thread de E/S está atrasada: pings e respostas de todas as sessões demoram",
    "dê CPU e memória ao processo; uma thread que para termina com um reinício do runner",
  ],
  engine_panic: [
    "um erro no motor encerrou a conexão de uma sessão, nos últimos cinco minutos",
    "relate-o; a sessão volta sozinha",
  ],
  error_rate_high: [
    "muitas discagens e pedidos falham, ou mensagens não podem ser lidas (de todos em cinco minutos), e não de uma ou duas sessões",
    "siga esse motivo em docs/states.md; muitas vezes é um proxy ou poucas contas",
  ],
  event_loop_lag: [
    "a thread do Python ficou parada por mais de 2 s; as conexões ficam, as decisões atrasam",
    "dê CPU ao processo; se voltar em uma máquina tranquila, o erro é nosso: relate-o",
  ],
  events_dropped: [
    "a fila entre o motor e a política transbordou nos últimos cinco minutos",
    "ache o que segura a thread do Python, ou aumente WHATSAPP_OUTBOX_CAPACITY",
  ],
  fd_limit: [
    "há mais sessões do que o limite de descritores de arquivo comporta; as menos ativas esperam",
    "aumente LimitNOFILE= da unidade (ou ulimit -n) e reinicie",
  ],
  file_descriptors_high: [
    "o processo tem quase tantos arquivos e sockets abertos quanto pode",
    "aumente LimitNOFILE= da unidade (ou ulimit -n) e reinicie",
  ],
  fleet_logout: [
    "muitas sessões foram desvinculadas juntas; nenhum outro login o confirma até o fim da espera",
    "não vincule de novo ainda: ache antes a causa (punição, um endereço para muitos números)",
  ],
  handler_exceptions: [
    "código nosso levantou uma exceção que não devia, nos últimos cinco minutos",
    "relate-a com o traceback que está no log",
  ],
  memory_high: [
    "a memória do cgroup, ou então da máquina, está quase toda em uso",
    "reinicie o runner, se for ele; senão dê mais memória, ou leve sessões para outra máquina",
  ],
  memory_limit: [
    "o processo passou do seu próprio limite de memória e reiniciou há pouco demais para reiniciar outra vez",
    "aumente o limite, ou rode menos sessões neste processo",
  ],
  messages_given_up: [
    "a aplicação ou um webhook não aceitou mensagens ou eventos depois de todas as tentativas, na última hora",
    "conserte a aplicação ou o destino e depois: python -m runner dead-letters redrive --all",
  ],
  path_outage: [
    "discagens por um caminho de saída (endpoint, proxy, endereço) falham; as sessões dele esperam por uma sonda",
    "conserte a rede ou o proxy; todas as sessões voltam sozinhas, pelo limitador",
  ],
  reconnect_loop: [
    "uma sessão gastou as suas tentativas; continua cada vez mais devagar, ou para, como foi configurado",
    "conserte o que o motivo diz e rearme o disjuntor; senão pare a sessão",
  ],
  response_time_high: [
    "o servidor demora a responder pings, consultas e envios (média de cinco minutos)",
    "verifique a rede e os proxies; se o resto está rápido, o servidor está lento: espere",
  ],
  session_deaf: [
    "pings são respondidos, mas algo que deve chegar não chega; a sessão é refeita",
    "nada por enquanto; se voltar na mesma sessão, vincule-a de novo",
  ],
  session_fault: [
    "exceções nossas encerraram conexões de sessões; cada uma desacelera como em qualquer falha",
    "relate com o traceback; um reinício pode ajudar, uma atualização vai",
  ],
  session_logged_out: [
    "um aparelho foi desvinculado, pelo telefone ou pelo servidor; as credenciais ficam arquivadas",
    "vincule-o de novo, ou apague a sessão",
  ],
  session_offline: [
    "uma sessão que devia rodar não está online há dois minutos, e nada mais explica isso",
    "force a reconexão; se o proxy dela morreu, dê-lhe outro",
  ],
  session_parked: [
    "uma sessão não volta sozinha: substituída por outro cliente, bloqueada, banida, chaves danificadas",
    "pare o outro programa que usa as chaves, ou desbloqueie a conta; depois reconecte com --override",
  ],
  session_penalised: [
    "o servidor baniu um número por um tempo (402) ou o desacelerou (429); nada é tentado antes do fim",
    "espere; envie menos e mais devagar por este número; forçar pode custar o número",
  ],
  session_restricted: [
    "o WhatsApp recusa textos de uma sessão a quem ainda não escreveu para ela (463); respostas continuam saindo, e quem foi recusado não é tentado de novo por dez minutos",
    "até lá não escreva primeiro a ninguém por este número; depois menos, e a pessoas que o conhecem",
  ],
  stanzas_unanswered: [
    "uma estrofe do servidor espera há meio minuto pela nossa resposta; vai custar a conexão",
    "se o armazenamento está bem, o erro é nosso: relate-o; a sessão é refeita sozinha",
  ],
  store_lag: [
    "o armazenamento não grava há mais de 5 s: enquanto isso, mensagens não são respondidas",
    "encerre o que trava o banco de dados, ou leve o diretório de dados para um disco mais rápido",
  ],
  store_stalled: [
    "o armazenamento não grava: mensagens esperam sem resposta. Sob uma trava de outro processo as sessões ficam; num disco que não responde, as conexões delas fecham depois de 20 s",
    "encerre o que trava o banco de dados, ou conserte o disco; depois tudo continua sozinho",
  ],
  stuck_close: [
    "o motor não larga uma conexão; a sessão dela não pode discar",
    "reinicie o runner, e relate",
  ],
  token_guessing: [
    "chegam tokens errados à API de administração, um após o outro; cada origem tem dez tentativas, depois dez por minuto",
    "pare o script que usa um token antigo (o log diz de quem vem: um usuário da máquina ou um endereço); senão feche a porta para esse endereço",
  ],
};
