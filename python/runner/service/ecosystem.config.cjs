// wa-runner under pm2; made by: python -m runner service print pm2 > ecosystem.config.cjs
//   pm2 start ecosystem.config.cjs    pm2 stop wa-runner    pm2 restart wa-runner    pm2 logs wa-runner
// An update without a stop: python -m runner restart --yes (same pid, so pm2 keeps following it).
module.exports = {
  apps: [
    {
      name: 'wa-runner',
      script: '${python}',
      args: '-m runner run',
      interpreter: 'none',
      exec_mode: 'fork',
      instances: 1,
      // pm2 sends SIGINT and then waits; the runner stops within 10 s, whatever hangs.
      kill_timeout: 12000,
      // The runner restarts itself in order a little earlier; pm2's limit is the net below, and it only kills.
      max_memory_restart: '32G',
      exp_backoff_restart_delay: 200,
      // Wrong settings, or a second runner: no restart mends these.
      stop_exit_codes: [0, 2, 6],
      merge_logs: true,
      env: {
        WHATSAPP_DATA_DIR: '${data_dir}',
        WHATSAPP_MAX_MEMORY_RESTART: '31G',
        WHATSAPP_LOG_FORMAT: 'json',
        PYTHONUNBUFFERED: '1',
      },
    },
  ],
};
